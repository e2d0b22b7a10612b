"""Configuration texts of pip, uv, conda and mamba that name a mirror: the old text in, the new text out.

Only our keys change. Comments, order, other indexes, line endings, a byte order mark and a missing final newline stay
as they are, and the same edit twice changes nothing more. Verification is never switched off. What an edit made is
read again by a parser that does not know how it was made: a text too unusual to be edited safely is an error, never
a damaged file. Knows nothing of files: `name` is only for messages.
"""

from __future__ import annotations

from mirrors.configs import conda, pip, uv
from mirrors.configs.text import MARK, bad, edited


def pip_conf(text: str, index_url: str, name: str = "pip.conf") -> str:
    """A pip.conf whose `[global] index-url` is this URL, and so is that of any other section that has one.

    Raises:
        BadConfig: pip would not be able to read the text.
    """
    if text.startswith(MARK):
        raise bad(name, 1, "begins with a byte order mark, which pip cannot read", "save the file as UTF-8 without it")
    return edited(text, lambda plain: pip.with_index(plain, index_url, name))


def uv_toml(text: str, index_url: str, name: str = "uv.toml") -> str:
    """A uv.toml whose default index is this URL, for `uv pip` too. Other `[[index]]` tables are left alone.

    Raises:
        BadConfig: the text is not TOML, or its indexes are not what uv expects.
    """
    return edited(text, lambda plain: uv.with_default_index(plain, index_url, name))


def uv_toml_pytorch(text: str, index_url: str, build: str, name: str = "uv.toml", *, flat: bool = False) -> str:
    """A uv.toml with an index `pytorch-<build>` at this URL, which is asked only where it is named.

    A new one is `explicit`: whatever it lists, it cannot stand in for a package of the default index.

    Args:
        text: the old text.
        index_url: the index, for this build.
        build: of torch, such as cu130.
        name: for messages.
        flat: whether the URL is one page of links, rather than an index.

    Raises:
        BadConfig: the text is not TOML, or its indexes are not what uv expects.
    """
    return edited(text, lambda plain: uv.with_named_index(plain, f"pytorch-{build}", index_url, flat, name))


def condarc(text: str, channel_url: str, name: str = ".condarc") -> str:
    """A .condarc in which the channel conda-forge is in the list of channels, and comes from `channel_url`/conda-forge.

    Raises:
        BadConfig: the text is not YAML, or its keys are not what conda expects.
    """
    return edited(text, lambda plain: conda.with_conda_forge(plain, channel_url, name))


def mambarc(text: str, channel_url: str, name: str = ".mambarc") -> str:
    """A .mambarc that says the same: mamba knows conda's keys.

    Raises:
        BadConfig: the text is not YAML, or its keys are not what mamba expects.
    """
    return condarc(text, channel_url, name)
