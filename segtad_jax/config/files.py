"""Config files: which one `--config=FILE[:switches]` means, and what is in it."""

import difflib
import inspect
import re
import traceback
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import ModuleType

from ml_collections import ConfigDict

from segtad_jax.config import defaults
from segtad_jax.config.literal import remarks

_PACKAGE = Path(__file__).resolve().parent.parent
_WHEEL = _PACKAGE / "configs"  # is there only where a wheel was installed
FOLDER = _WHEEL if _WHEEL.is_dir() else _PACKAGE.parent / "configs"


def shipped() -> dict[str, Path]:
    """Returns the configs that come with the package, by the names that `--config` takes."""
    return {path.stem: path for path in sorted(FOLDER.glob("*.py"))}


def config_path(name: str) -> Path:
    """Returns the config file that a name stands for.

    Args:
        name: of a shipped config, `watch`, whatever lies in the working folder; otherwise a path,
            which `./watch` and `watch.py` are, too.

    Raises:
        ValueError: there is none; says which name is the nearest.
    """
    path, known = Path(name), shipped()
    if name in known or path.is_file():
        return known.get(name, path)
    near = difflib.get_close_matches(str(path), map(str, path.parent.glob("*.py")), n=1)
    near += difflib.get_close_matches(path.stem, known, n=1)
    hint = f" Did you mean '{near[0]}'?" if near else ""
    raise ValueError(
        f"there is no config '{name}'.{hint} Give a file, or one of those that come with the "
        f"package: {', '.join(known)}."
    )


def load(text: str) -> ConfigDict:
    """Returns the config of `FILE[:switches]`, locked.

    Raises:
        ValueError: there is no such file or switch, or the file raises something; says where.
    """
    name, colon, switches = text.partition(":")
    path = str(config_path(name))
    module = ModuleType("config_file")
    module.__file__ = path
    try:
        SourceFileLoader(module.__name__, path).exec_module(module)
        return module.get_config(*[switches] if colon else []).lock()
    except ValueError:
        raise
    except Exception as error:
        frames = traceback.extract_tb(error.__traceback__)
        lines = [str(frame.lineno) for frame in frames if frame.filename == path]
        line = getattr(error, "lineno", None) or (lines or ["1"])[-1]
        message = " ".join(str(error).split())
        raise ValueError(f"{path}, line {line}: {type(error).__name__}: {message}") from error


def listing(config: ConfigDict) -> str:
    """Returns the fields of a config, a line each, with the comments of `config.defaults`."""
    groups, lines = {"config": ""}, ["# None: open, which means chosen to fit the data set"]
    for line in inspect.getsource(defaults.default).splitlines():
        comment = "".join(re.findall("  # .*", line))
        if group := re.match(r"    (\w+) = config\.(\w+) = ", line):
            groups[group[1]] = f"{group[2]}."
            lines.append(comment.strip())
        elif assigned := re.match(r"    (\w+)\.(\w+) = ", line):
            field = groups[assigned[1]] + assigned[2]
            lines.append(f"{field} = {config[field]!r}{comment}")
        elif line.startswith("    # "):
            lines.append(line.strip())
    lines += [f"# {remark}" for remark in remarks(config)]
    return "\n".join(lines)
