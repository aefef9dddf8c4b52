"""The configuration file, and the environment's variables that override it."""

from __future__ import annotations

import math
import os
import re
import sys
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from edgemoe.cloud import Budget, Endpoint
from edgemoe.config import settings, tables
from edgemoe.config.settings import CloudModel, Condition, Config, LocalModel, Rule, Target, Weights
from edgemoe.config.tables import Keys, Source, Table, integer, number, one_of, text, texts
from edgemoe.errors import CloudError, ConfigError, EdgeMoEError
from edgemoe.files import config_folder, reason

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

PREFIX = "EDGEMOE_"
_ROUTES = (settings.LOCAL, settings.CLOUD, settings.REFUSE)
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
_ONE = number(0, 1)


def config_path() -> Path:
    """The file that is read when none is named: EDGEMOE_CONFIG, or config.toml in the user's configuration folder.

    Raises:
        ConfigError: EDGEMOE_CONFIG cannot be a file's name.
    """
    if named := os.environ.get(f"{PREFIX}CONFIG"):
        try:
            return Path(named).expanduser()
        except RuntimeError as error:  # ~name, and there is no such user
            raise ConfigError(f"the variable {PREFIX}CONFIG: {named!r} is no file's name: {error}") from error
    return config_folder() / "config.toml"


def load_config(path: str | os.PathLike[str] | None = None) -> Config:
    """Reads `path`, or the user's file; without one, everything has its default. Variables override both.

    Raises:
        ConfigError: for a file that cannot be read, an unknown key, or a value that cannot be used.
    """
    file = Path(path) if path is not None else config_path()
    named = path is not None or bool(os.environ.get(f"{PREFIX}CONFIG"))
    written = _read(file, must_exist=named)
    values = _parse(written or "", file)
    variables = _override(values, os.environ)
    source = Source(file if written is not None else None, written or "", variables)
    return _config(Table(values, (), source), file if written is not None else None)


def _read(path: Path, *, must_exist: bool) -> str | None:
    try:
        return path.read_text(encoding="utf-8-sig")  # editors of Windows put a mark at the start
    except FileNotFoundError:
        if not must_exist:
            return None
        raise ConfigError(f"{path} does not exist: edgemoe route init writes one") from None
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {reason(path, error)}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path} is not a text in UTF-8: {error.reason} at byte {error.start}") from error


def _parse(written: str, path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(written)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise ConfigError(f"{path} is no TOML: {error}") from error


# The environment


def _override(values: dict[str, Any], environment: Mapping[str, str]) -> dict[Keys, str]:
    """Puts EDGEMOE_* variables into `values`; which key each of them replaced."""
    known = {f"{PREFIX}{name.upper()}": name for name in _PLAIN}
    used: dict[Keys, str] = {}
    for variable, written in sorted(environment.items()):
        if not variable.startswith(PREFIX) or variable == f"{PREFIX}CONFIG":
            continue
        if variable in known:
            keys: Keys | None = (known[variable],)
        else:
            keys = _inner_keys(variable.removeprefix(PREFIX), values)
        if keys is None:  # other programs of this project have variables with this prefix
            near = tables.nearest(variable.removeprefix(PREFIX), _PLAIN, cutoff=0.8)
            if near:
                raise ConfigError(f"the variable {variable} is no setting: did you mean {PREFIX}{near.upper()}?")
            continue
        table = values
        for key in keys[:-1]:
            table = table.setdefault(key, {})
            if not isinstance(table, dict):
                raise ConfigError(f"the variable {variable} cannot replace a value of {key}, which is no table")
        table[keys[-1]] = _value(written)
        used[keys] = variable
    return used


def _inner_keys(name: str, values: Mapping[str, Any]) -> Keys | None:
    """WEIGHTS_PRICE is weights.price, LOCAL_SMALL_MEMORY is local.small.memory, whatever the case of "small"."""
    kind, _, rest = name.partition("_")
    if kind == "WEIGHTS" and rest:
        return "weights", rest.lower()
    if kind not in ("LOCAL", "CLOUD"):
        return None
    models = values.get(kind.lower())
    targets = {re.sub(r"\W", "_", target).upper(): target for target in (models if isinstance(models, dict) else ())}
    for start in sorted(targets, key=len, reverse=True):
        if rest.startswith(f"{start}_"):
            return kind.lower(), targets[start], rest.removeprefix(f"{start}_").lower()
    has = f"it has {', '.join(targets)}" if targets else "it has none"
    raise ConfigError(f"the variable {PREFIX}{name} names no [{kind.lower()}] model of the configuration: {has}")


def _value(written: str) -> Any:
    """As TOML has it, else as text: 0.5, true, ["email"], 1.50/day."""
    try:
        return tomllib.loads(f"v = {written}")["v"]
    except tomllib.TOMLDecodeError:
        return written


# What the tables mean

_PLAIN = {
    "private": tables.boolean,
    "personal_data": texts(one_of(*settings.PERSONAL_DATA)),
    "threshold": _ONE,
    "unsafe_threshold": _ONE,
    "refusal": text,
    "escalate": one_of(*settings.ESCALATE),
    "confidence": _ONE,
    "verify": tables.boolean,
    "budget": None,
    "prompts_per_day": number(0.001, 1e9),
    "answer_tokens": integer(1),
    "feedback": tables.boolean,
    "memory": tables.size,
    "router": None,
    "heads": None,
    "state": None,
}
"""Keys outside any table; those with None are checked where they are read."""


def _config(top: Table, path: Path | None) -> Config:
    folder = path.parent if path else Path.cwd()
    file = tables.file_in(folder)
    found: dict[str, Any] = {"path": path}
    for key, check in _PLAIN.items():
        found[key] = top.take(key, check) if check else None
    found["budget"] = top.take("budget", Budget.parse)
    found["router"] = top.take("router", file)
    found["heads"] = tuple(map(Path, top.take("heads", texts(lambda value: str(file(value))), ())))
    found["state"] = top.take("state", lambda value: tables.path_in(folder, value))
    found["weights"] = _weights(top)
    local = {name: _local(name, table, folder) for name, table in top.tables("local").items()}
    found["local"] = local or None
    found["cloud"] = {name: _cloud(name, table) for name, table in top.tables("cloud").items()}
    _check_names(top, local, found["cloud"])
    found["rules"] = _rules(top, local or {"default": LocalModel("default")}, found["cloud"])
    top.end()
    return Config(**{key: value for key, value in found.items() if value is not None})


def _weights(top: Table) -> Weights:
    inner = Table(top.take("weights", tables.table, {}), ("weights",), top.source)
    chosen = {f.name: inner.take(f.name, number(0, 1000), f.default) for f in fields(Weights)}
    inner.end()
    return Weights(**chosen)


def _not_empty(value: Any) -> str:
    if not isinstance(value, str) or not value:
        raise ValueError("a text in quotes")
    return value


_SAMPLING = {
    "temperature": number(0, 100),
    "top_p": number(0, 1),
    "top_k": integer(0),
    "min_p": number(0, 1),
    "seed": integer(0, 2**32 - 2),
    "max_tokens": integer(1),
    "repeat_penalty": number(0, 100),
    "frequency_penalty": number(-2, 2),
    "presence_penalty": number(-2, 2),
    "stop": lambda value: list(texts(_not_empty)(value)),
}


def _answering(inner: Table) -> dict[str, Any]:
    """What local and cloud models have alike."""
    keys = inner.keys + ("sampling",)
    sampling = Table(inner.take("sampling", tables.table, {}), keys, inner.source)
    chosen = {name: sampling.take(name, check) for name, check in _SAMPLING.items()}
    sampling.end()
    return {
        "domains": inner.take("domains", texts()),
        "ability": inner.take("ability", _ONE),
        "latency": inner.take("latency", number(0, 1e6)),
        "system": inner.take("system", text),
        "sampling": {name: value for name, value in chosen.items() if value is not None} or None,
    }


def _local(name: str, inner: Table, folder: Path) -> LocalModel:
    found = _answering(inner) | {
        "path": inner.take("path", tables.model_in(folder)),
        "memory": inner.take("memory", tables.size),
        "quality": inner.take("quality", _quality),
        "ctx": inner.take("ctx", integer(1)),
        "threads": inner.take("threads", integer(1, 4096)),
        "confidence": inner.take("confidence", _coefficients),
    }
    inner.end()
    return LocalModel(name, **{key: value for key, value in found.items() if value is not None})


def _quality(value: Any) -> str:
    from edgemoe.experts.quality import KNOWN, LEVELS, parse_quality

    asked = f"{value:g}" if isinstance(value, float) else text(value)
    try:
        parse_quality(asked, LEVELS)
    except EdgeMoEError:
        raise ValueError(KNOWN) from None
    return asked


def _coefficients(value: Any) -> tuple[float, ...]:
    if not isinstance(value, list) or len(value) != 3:
        raise ValueError("the three numbers that edgemoe route confidence prints")
    return tuple(map(number(-1e6, 1e6), value))


def _cloud(name: str, inner: Table) -> CloudModel:
    found = _answering(inner) | {"trust": inner.take("trust", _ONE)}
    given: dict[str, Any] = {"base_url": inner.need("base_url", text), "model": inner.need("model", text)}
    for field in fields(Endpoint):
        if field.name not in ("name", "base_url", "model"):
            given[field.name] = inner.take(field.name, _endpoint_check(field.name))
    inner.end()
    given = {key: value for key, value in given.items() if value is not None}
    try:
        endpoint = Endpoint(name, **given)
    except CloudError as error:
        key = next((key for key in given if key in str(error)), None)
        raise inner.error(key, str(error)) from None
    return CloudModel(name, endpoint, **{key: value for key, value in found.items() if value is not None})


def _endpoint_check(key: str) -> tables.Check[Any]:
    if key in ("key_variable", "keyring"):
        return text
    if key == "plain_http":
        return tables.boolean
    return integer(0, 10) if key == "retries" else number(0, 1e9)


# Rules


def _check_names(top: Table, local: Mapping[str, Any], cloud: Mapping[str, Any]) -> None:
    for kind, names in (("local", local), ("cloud", cloud)):
        for name in names:
            place = Table({}, (kind, name), top.source)
            if name in _ROUTES or not _NAME.fullmatch(name):
                raise place.error(
                    None, f"a model cannot be called {name!r}: use letters and digits, and no route's name"
                )
            if kind == "cloud" and name in local:
                raise place.error(None, f"{name!r} is also the name of a local model: give each its own")


def _rules(top: Table, local: Mapping[str, Target], cloud: Mapping[str, Target]) -> tuple[Rule, ...]:
    def tables_of(value: Any) -> list[dict[str, Any]]:
        if not isinstance(value, list) or not all(isinstance(v, dict) for v in value):
            raise ValueError("tables, each under a line [[rule]]")
        return value

    found = []
    for i, values in enumerate(top.take("rule", tables_of, []), 1):
        inner = Table(values, ("rule", str(i)), top.source)
        when = inner.need("when", tables.table)
        if not when:
            raise inner.error("when", 'a rule needs a condition: when = { domain = "code" }')
        conditions = Table(when, (*inner.keys, "when"), top.source)
        then = inner.need("then", one_of(*_ROUTES, *local, *cloud))
        held = {head: conditions.need(head, _condition) for head in when}
        found.append(Rule(inner.take("name", text, f"rule {i}"), held, then, inner.take("refusal", text)))
        inner.end()
    return tuple(found)


def _condition(value: Any) -> Condition:
    if isinstance(value, str) and (match := re.fullmatch(r"\s*(>=|<=|>|<)\s*([01](?:\.\d+)?|\.\d+)\s*", value)):
        sign, limit = match[1], _ONE(float(match[2]))
        if len(sign) == 1:  # the limit itself is not meant
            limit = math.nextafter(limit, math.inf if sign == ">" else -math.inf)
        return Condition(least=limit) if sign[0] == ">" else Condition(most=limit)
    if isinstance(value, (str, list)) and value and not str(value).lstrip().startswith(("<", ">")):
        return Condition(labels=texts()(value))
    raise ValueError('a label, a list of labels, or a probability such as ">= 0.7"')
