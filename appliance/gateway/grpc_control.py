"""The RPCs of V2's log and trace settings. What the settings mean, observability says. Runs in the gateway."""

from typing import Any

import msgspec

from appliance.core.names import parse_name
from appliance.gateway.dataplane import DataPlane
from appliance.gateway.grpc_stubs import pb
from appliance.security.scopes import Principal

_PARAMETERS: dict[type, str] = {bool: "bool_param", int: "uint32_param", str: "string_param"}


class GrpcControl:
    """Each takes a parsed request and the caller. A request without settings only reads."""

    def __init__(self, dataplane: DataPlane) -> None:
        self._dataplane = dataplane

    async def log_settings(self, request: Any, caller: Principal) -> Any:
        switch = self._dataplane.log_switch
        settings = switch.settings
        if request.settings:
            caller.require("admin", None)
            settings = switch.update({name: _log_value(value) for name, value in request.settings.items()})
        answer = pb.LogSettingsResponse()
        for name, value in msgspec.structs.asdict(settings).items():
            setattr(answer.settings[name], _PARAMETERS[type(value)], value)
        return answer

    async def trace_setting(self, request: Any, caller: Principal) -> Any:
        tracer, model = self._dataplane.tracer, ""
        if request.model_name:
            name = self._dataplane.catalogue.entry(parse_name(request.model_name)).name
            caller.require("admin" if request.settings else "call", name)
            model = name.v2
        elif request.settings:
            caller.require("admin", None)
        settings = tracer.settings(model)
        if request.settings:
            changes = {word: list(setting.value) or None for word, setting in request.settings.items()}
            settings = await tracer.update(changes, model)
        answer = pb.TraceSettingResponse()
        for word, value in settings.words().items():
            answer.settings[word].value.extend([value] if isinstance(value, str) else value)
        return answer


def _log_value(setting: Any) -> object:
    choice = setting.WhichOneof("parameter_choice")
    return None if choice is None else getattr(setting, choice)
