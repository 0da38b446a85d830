"""The hybrid recogniser as a model of `transformers`: initial values, saving, loading, `AutoModelForCTC`."""

from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from transformers import AutoConfig, AutoModelForCTC, PreTrainedModel
from transformers import initialization as init

from lact_asr_model.configuration_hybrid_asr import HybridASRConfig
from lact_asr_model.hybrid_network import HybridNetwork
from lact_asr_model.lact_layer import FastWeightMemory, inverse_softplus


class HybridASRForCTC(HybridNetwork, PreTrainedModel):
    """See `HybridNetwork`; this one has initial values, can be trained and saved, and loads from a hub."""

    config_class = HybridASRConfig
    config: HybridASRConfig
    base_model_prefix = "hybrid_asr"
    input_modalities = "audio"
    supports_gradient_checkpointing = True
    _no_split_modules: ClassVar[list[str]] = ["LactBlock"]

    def __init__(self, config: HybridASRConfig) -> None:
        PreTrainedModel.__init__(self, config)
        self.build(config)
        PreTrainedModel.post_init(self)
        self._freeze()

    @classmethod
    def of(cls, network: HybridNetwork) -> "HybridASRForCTC":
        """The same network, with the same tensors, as this class."""
        if isinstance(network, cls):
            return network
        with torch.device("meta"):
            model = cls(network.config)
        model.load_state_dict(network.state_dict(), assign=True)
        return model.train(network.training)

    @classmethod
    def from_pretrained(cls, *args: Any, **kwargs: Any) -> Any:
        """As in `transformers`; loading makes new parameters, so what is frozen is frozen once more."""
        loaded = super().from_pretrained(*args, **kwargs)
        model = loaded[0] if isinstance(loaded, tuple) else loaded
        model._freeze()
        return loaded

    def _freeze(self) -> None:
        for scales in self.step_scale_parameters():
            scales.requires_grad_(False)
        if self.config.freeze_encoder:
            self.encoder.requires_grad_(False)

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        if isinstance(module, nn.Conv1d):
            init.kaiming_normal_(module.weight)
        elif isinstance(module, nn.RMSNorm):
            init.ones_(module.weight)
        elif isinstance(module, FastWeightMemory):
            for weight in (module.w0, module.w1, module.w2):
                init.normal_(weight, mean=0.0, std=weight.shape[-2] ** -0.5)
            init.constant_(module.lr_proj.bias, inverse_softplus(self.config.fast_weight_lr_init))
        elif isinstance(module, HybridASRForCTC):
            init.uniform_(module.masked_spec_embed)
            init.zeros_(module.fast_weight_log_step_scales)
            init.zeros_(module.front_end_log_step_scales)

    def _get_feat_extract_output_lengths(self, input_lengths: Tensor | int) -> Tensor | int:
        return self.config.num_frames(input_lengths)


AutoConfig.register(HybridASRConfig.model_type, HybridASRConfig)
AutoModelForCTC.register(HybridASRConfig, HybridASRForCTC)
