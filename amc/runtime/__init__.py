"""How any network is run: on which device, in which number format, with which inputs."""

from amc.runtime.call import inference
from amc.runtime.device import autocast, bfloat16_pays, device_of, resolve_device, resolve_dtype

__all__ = ["autocast", "bfloat16_pays", "device_of", "inference", "resolve_device", "resolve_dtype"]
