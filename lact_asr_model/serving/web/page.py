"""The layout of the page, and which of its parts call which handler."""

import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lact_asr_model.data.utterance import Utterance
from lact_asr_model.serving.web.handlers import FILE_COLUMNS, WORD_COLUMNS, Handlers
from lact_asr_model.serving.web.noises import CLEAN, Noises
from lact_asr_model.serving.web.recogniser import Recognisers
from lact_asr_model.serving.web.word_marks import DIFFERENT, RIGHT, WRONG

TITLE = "lact-asr"
_INTRODUCTION = (
    "# lact-asr\n"
    "A speech recogniser that takes a step or two on the recording itself, without its text, before it answers. "
    "Choose a recording, add noise, and see what that changes. Words that differ are marked: blue ones are right, "
    "orange ones wrong, where the text is known."
)
_METHODS = ("Plain", "Adapted")
_NO_SHARING = ["download"]  # gradio would offer to send recordings elsewhere
_MARK_COLORS = {DIFFERENT: "yellow", RIGHT: "blue", WRONG: "orange"}
_FILE_COLUMN_WIDTHS = ["20%", "8%", "50%", "22%"]
_EXAMPLE_CHARACTERS = 40
_TABLE_PIXELS = 260
_SNR_RANGE_DB = (-5, 30)
_ONE_AT_A_TIME = {"concurrency_limit": 1, "concurrency_id": "model"}


def build_page(
    recognisers: Recognisers, noises: Noises, examples: Sequence[Utterance], *, steps: int, snr_db: float, folder: Path
) -> Any:
    """The page as `gradio.Blocks`.

    Args:
        recognisers, noises, folder: see `Handlers`.
        examples: recordings with their texts, to choose from.
        steps, snr_db: of adaptation and noise, at first.
    """
    import gradio as gr

    handlers = Handlers(recognisers, noises, folder)
    texts = [utterance.text or "" for utterance in examples]
    labels = [textwrap.shorten(text, _EXAMPLE_CHARACTERS, placeholder=" …") for text in texts]

    def transcribe(*values: Any, progress: Any = gr.Progress()) -> tuple[Any, ...]:  # noqa: B008  (gradio's way)
        def tell(done: tuple[int, int], description: str) -> None:
            progress(done, desc=description, unit="recordings")

        return handlers.transcribe(tell, *values)

    with gr.Blocks(title=TITLE, analytics_enabled=False) as page:
        gr.Markdown(_INTRODUCTION)
        checkpoint = gr.Textbox(
            label="Checkpoint",
            placeholder="the one of the command line; or a folder, a best_model.pt, the hub id of any CTC model",
            elem_id="checkpoint",
        )
        with gr.Tab("One recording"):
            with gr.Row():
                with gr.Column():
                    recording = gr.Audio(
                        sources=["upload", "microphone"],
                        type="filepath",
                        label="Recording",
                        elem_id="recording",
                        buttons=_NO_SHARING,
                    )
                    example = gr.Dropdown(
                        [(label, index) for index, label in enumerate(labels)],
                        value=None,
                        label="Or an example",
                        elem_id="example",
                    )
                    reference = gr.Textbox(label="What is said, if you know it: for the word error rate")
                with gr.Column():
                    kind = gr.Dropdown(noises.kinds, value=CLEAN, label="Noise or other damage", elem_id="kind")
                    level = gr.Slider(
                        *_SNR_RANGE_DB,
                        value=snr_db,
                        step=1,
                        label="Signal-to-noise ratio, dB",
                        elem_id="level",
                        visible=False,
                    )
                    use_lm = gr.Checkbox(label="Language model", elem_id="lm")
                    adaptation_steps = gr.Slider(1, 10, value=steps, step=1, label="Steps of adaptation")
                    step_factor = gr.Slider(
                        0.25, 8, value=1, step=0.25, label="Size of a step (1 = the checkpoint's own)"
                    )
                    button = gr.Button("Recognise", variant="primary")
            message = gr.HTML(elem_id="message")
            with gr.Row():
                heard = gr.Audio(
                    label="What the recogniser hears", interactive=False, elem_id="heard", buttons=_NO_SHARING
                )
                picture = gr.Plot(show_label=False, elem_id="picture", scale=2)
            transcripts, summaries, tables = [], [], []
            with gr.Row():
                for name in _METHODS:
                    with gr.Column():
                        transcripts.append(
                            gr.HighlightedText(
                                label=name, color_map=_MARK_COLORS, show_inline_category=False, elem_id=name.lower()
                            )
                        )
                        summaries.append(gr.Markdown(elem_id=f"{name.lower()}_summary"))
            curve = gr.Plot(show_label=False, elem_id="curve")
            with gr.Row():
                for name in _METHODS:
                    tables.append(
                        gr.Dataframe(
                            headers=WORD_COLUMNS,
                            label=f"{name}: words",
                            max_height=_TABLE_PIXELS,
                            interactive=False,
                        )
                    )
            example.input(
                lambda index: (str(examples[index].audio_path), texts[index]), example, [recording, reference]
            )
            gr.on(
                [recording.upload, recording.start_recording, recording.clear],
                lambda text: ("" if text in texts else text, None),
                reference,
                [reference, example],
            )
            gr.on(
                [recording.change, kind.change, level.release],
                handlers.hear,
                [recording, kind, level],
                [message, heard, picture],
            )
            kind.change(lambda name: gr.Slider(visible=noises.has_level(name)), kind, level)
            button.click(
                handlers.compare,
                [recording, kind, level, use_lm, adaptation_steps, step_factor, reference, checkpoint],
                [message, *transcripts, *summaries, *tables, curve],
                show_progress_on=transcripts,
                **_ONE_AT_A_TIME,
            )
        with gr.Tab("Several recordings"):
            files = gr.File(file_count="multiple", label="Recordings, of any length", elem_id="files")
            with gr.Row():
                adapts_batch = gr.Checkbox(label="Adapt to each")
                batch_uses_lm = gr.Checkbox(label="Language model")
                batch_button = gr.Button("Transcribe", variant="primary")
            batch_message = gr.HTML(elem_id="batch_message")
            rows = gr.Dataframe(
                headers=FILE_COLUMNS,
                column_widths=_FILE_COLUMN_WIDTHS,
                wrap=True,
                interactive=False,
                label="Transcripts",
                elem_id="rows",
            )
            downloads = gr.File(
                label="Download: JSON lines of all, subtitles of each", interactive=False, elem_id="downloads"
            )
            batch_button.click(
                transcribe,
                [files, adapts_batch, batch_uses_lm, checkpoint],
                [batch_message, rows, downloads],
                show_progress_on=rows,
                **_ONE_AT_A_TIME,
            )
    return page
