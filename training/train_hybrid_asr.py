"""Train the recogniser: `python training/train_hybrid_asr.py --help`."""

from lact_asr_model.commands.train import main

if __name__ == "__main__":
    main()
