"""Configuration texts as people have them, by what is special about each. The tools that they are for read all."""

from __future__ import annotations

PIP = {
    "empty": "",
    "comments": "# mine\n[global]\n; and this\ntimeout = 5\n\n# about install\n[install]\nuser = no\n",
    "a command's own": "[global]\ntimeout = 5\n\n[install]\nindex-url = https://old.example/simple\n",
    "global and a command's": (
        "[global]\nindex-url=https://old.example/simple\n[install]\nindex-url: https://old.example/other\n"
        "[download]\nindex-url = https://old.example/third\n"
    ),
    "value": "[global]\nindex-url = https://old.example/simple\ntrusted-host = old.example\n",
    "spelling": "[global]\nIndex_URL : https://old.example/simple\ntimeout: 5\n",
    "several lines": "[global]\nindex-url =\n    https://old.example/simple\n    # in between\ntimeout = 5\n",
    "extra": "[global]\nextra-index-url =\n    https://a.example/simple\n    https://b.example/simple\n",
    "extra at the end": "[global]\ntimeout = 5\nextra-index-url = https://a.example/simple\n    https://b.example/simple\n\n",
    "credentials": "[global]\nindex-url = https://me:p%40ss%25@old.example/simple\nproxy = http://me:%%@p.example:1\n",
    "other sections": "[install]\nuser = no\n\n\n",
    "unknown": "[mine]\nof-no-use = 1\n[global]\nunheard-of = yes\n",
    "tabs": "[global]\n\ttimeout\t=\t5\n\tretries = 3\n[list]\nformat\t= columns\n",
    "value with tabs": "[global]\nindex-url\t=\thttps://old.example/simple\t\ntimeout = 5\n",
    "crlf": "[global]\r\ntimeout = 5\r\n[list]\r\nformat = columns\r\n",
    "mixed": "[global]\r\ntimeout = 5\n\r\n[list]\nformat = columns\r\n",
    "no newline": "[global]\ntimeout = 5",
    "no newline, value": "[global]\ntimeout = 5\nindex-url = https://old.example/simple",
    "empty section": "[global]\n\n[list]\nformat = columns\n",
}
UV_TOML = {
    "empty": "",
    "torch first": (
        "# torch\n[[index]]\nname = 'pytorch-cu128'   # ours\n"
        'url = "https://torch.example/whl/cu128"\nexplicit = true\n'
    ),
    "torch in the first line": (
        "[[index]]\nname = 'pytorch-cu128'\nurl = 'https://torch.example/whl/cu128'\nexplicit = true\n"
        "[[index]]\nurl = 'https://old.example/simple'\ndefault = true\n"
    ),
    "torch and default": (
        "offline = false\n\n[[index]]\nname = 'pytorch-cu128'\nurl = 'https://torch.example/whl'\nexplicit = true\n\n"
        "[pip]\nsystem = true  # kept\n\n"
        "[[index]]\nname='main' # first\nurl   = 'https://old.example/simple' # old\ndefault = true\n"
    ),
    "older key and newer": (
        "index-url = 'https://old.example/older'\n[[index]]\nurl = 'https://old.example/simple'\ndefault = true\n"
    ),
    "older key": "index-url = 'https://old.example/simple' # older\nextra-index-url = ['https://a.example/simple']\n",
    "pip's own": "[pip]\n# kept\nindex-url = 'https://old.example/simple' # old\nsystem = true\n",
    "pip's own and ours": (
        "[pip]\nindex-url = 'https://old.example/pip'\n[[index]]\nurl = 'https://old.example/simple'\ndefault = true\n"
    ),
    "pip's own and the older key": "index-url = 'https://old.example/a'\n[pip]\nindex-url = 'https://old.example/b'\n",
    "pip in one line": "pip = { index-url = 'https://old.example/simple', system = true }\n",
    "pip dotted": "pip.system = true # kept\npip.index-url = 'https://old.example/simple'\n",
    "inline": (
        "index = [{ url = 'https://a.example/simple' },\n"
        "  # c\n  { url = 'https://old.example/simple', default = true }]\n"
    ),
    "inline with a name": "index = [{ name = 'main', url = 'https://old.example/simple', default = true }]\n",
    "inline without default": "index = [{ url = 'https://a.example/simple' }]\nnative-tls = true\n",
    "flat default": "[[index]]\nurl = 'https://old.example/simple'\nformat = 'flat'\ndefault = true\n",
    "tabs": "[pip]\n\tsystem\t= true\t# kept\n\n[[index]]\n\turl = 'https://old.example/simple'\n\tdefault = true\n",
    "crlf": "native-tls = true\r\n\r\n[pip]\r\nsystem = true\r\n",
    "bom": "\ufeffnative-tls = true\n",
    "no newline": "[[index]]\nurl = 'https://old.example/simple'\ndefault = true",
    "no newline, none": "[pip]\nsystem = true",
}
CONDARC = {
    "empty": "",
    "comment only": "# nothing yet\n",
    "block": "# mine\nchannels:\n  - defaults  # first\n  - bioconda\nssl_verify:   true\n",
    "block at the margin": "channels:\n- bioconda\n- defaults\nshow_channel_urls: yes\n",
    "flow": "channels: [bioconda,  defaults] #!final\ncustom_channels: {bioconda: 'https://a.example'}\n",
    "flow over lines": "channels: [\n  bioconda, # kept\n  defaults,\n]\n",
    "value": "custom_channels:\n    conda-forge: 'https://old.example/cloud'  # old\n    nvidia: https://n.example\n",
    "null": "channels:   # none\ncustom_channels: ~\nauto_activate_base: false\n",
    "final": "channels: #!final\n  - conda-forge #!top\n",
    "final map": "custom_channels: #!final\n  nvidia: https://n.example #!bottom\n",
    "document": "---\nchannels:\n  - conda-forge\n",
    "alias": "channel_alias: https://alias.example/cloud\nchannels:\n  - bioconda\n  - conda-forge\n",
    "default channels": (
        "default_channels:\n  - https://d.example/pkgs/main\n  - https://d.example/pkgs/r\nchannels:\n  - defaults\n"
    ),
    "by its address": "channels:\n  - defaults # kept\n  - https://old.example/c/conda-forge/ # old\n  - bioconda\n",
    "by two addresses": "channels: ['https://old.example/a/conda-forge', \"https://old.example/b/conda-forge\"]\n",
    "variables": "channel_alias: https://${WHO}:${KEY}@a.example/t\nproxy_servers:\n  https: ${PROXY}\n",
    "mirrors of mamba": (
        "mirrored_channels:\n  conda-forge:\n    - https://old.example/conda-forge # old\n  bioconda: [https://b.example]\n"
    ),
    "anchors": "x-mine: &mine\n  - bioconda\ncreate_default_packages: *mine\nchannels:\n  - defaults\n",
    "quoted keys": "\"channels\":\n  - 'defaults'\n'custom_channels':\n  'nvidia': https://n.example\n",
    "unknown": "unheard_of: 3\nchannels:\n  - defaults\nchannel_priority: strict\n",
    "crlf": "channels:\r\n  - defaults\r\npip_interop_enabled: true\r\n",
    "bom": "\ufeffchannels:\n  - defaults\n",
    "no newline": "channels:\n  - defaults",
    "empty lists": "channels: []\ncustom_channels: {}\n",
}
