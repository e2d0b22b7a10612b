"""The catalogue's rows: to add a mirror is one line here.

Read in the operators' and tools' own files between July and September 2026; none is trusted, and what each can do is
found out by a probe at run time. Left out: mirrors that are closed, mirrors reached by plain http only, addresses that
only redirect to another mirror (ZJU, CERNET), those inside one provider's network only, and hosts that merely
proxy another kind of registry. PyPI itself is not written here: `catalogue` takes its endpoint from pypi-simple.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

Kind = Literal["pypi", "pytorch", "conda", "docker", "hub", "apt", "python"]

# How the URL is to be read:
#   simple       PEP 503/691 index: URL/project/
#   flat         one page of links (pip --find-links, uv format="flat")
#   channels     conda: URL/channel
#   anaconda     conda: URL/pkgs/main and URL/cloud/channel
#   registry     Docker registry API
#   huggingface  Hugging Face Hub API
#   modelscope   ModelScope API
#   files        a plain tree of files
Layout = Literal["simple", "flat", "channels", "anaconda", "registry", "huggingface", "modelscope", "files"]


@dataclass(frozen=True)
class Mirror:
    """A place where bytes come from.

    Attributes:
        id: unique among the mirrors of its kind.
        name: for people.
        kind: what it serves.
        url: without a trailing slash; `{variant}` stands for a torch build (cpu, cu130) or a distribution (debian).
            It may carry credentials, so it is left out of the repr: show it by way of `mirrors.urls.shown`.
        region: ISO country code, or "global".
        layout: how the URL is to be read.
        upstream: whether the bytes are published here.
        notes: what is known of it.
        max_rate: the bytes/s that its operator allows, where that is published.
        requests_per_minute: how many its operator allows, where that is published.
    """

    id: str
    name: str
    kind: Kind
    url: str = field(repr=False)
    region: str
    layout: Layout
    upstream: bool = False
    notes: str = ""
    max_rate: int | None = None
    requests_per_minute: int | None = None


def _pypi(id_: str, name: str, url: str, region: str = "CN", notes: str = "") -> Mirror:
    return Mirror(id_, name, "pypi", url, region, "simple", notes=notes)


def _conda(id_: str, name: str, url: str, notes: str = "") -> Mirror:
    return Mirror(id_, name, "conda", url, "CN", "anaconda", notes=notes)


def _docker(id_: str, url: str) -> Mirror:
    notes = "run by volunteers, comes and goes; use it with @sha256 digests only"
    return Mirror(id_, id_, "docker", url, "CN", "registry", notes=notes)


def _apt(id_: str, name: str, url: str, notes: str = "") -> Mirror:
    return Mirror(id_, name, "apt", url, "CN", "files", notes=notes)


ROWS: tuple[Mirror, ...] = (
    _pypi(
        "tuna",
        "TUNA, Tsinghua University",
        "https://pypi.tuna.tsinghua.edu.cn/simple",
        notes="filters by User-Agent, bans heavy repeated downloads; no PEP 658 metadata since 2026-01-26",
    ),
    _pypi("bfsu", "BFSU, Beijing Foreign Studies University", "https://mirrors.bfsu.edu.cn/pypi/web/simple"),
    _pypi("ustc", "USTC", "https://mirrors.ustc.edu.cn/pypi/simple", notes="a cache: a miss redirects to TUNA"),
    _pypi(
        "sjtu",
        "SJTUG, Shanghai Jiao Tong University",
        "https://mirror.sjtu.edu.cn/pypi/web/simple",
        notes="a cache; files over 1 GiB are not cached",
    ),
    _pypi("nju", "Nanjing University", "https://mirror.nju.edu.cn/pypi/web/simple"),
    _pypi("pku", "Peking University", "https://mirrors.pku.edu.cn/pypi/web/simple"),
    _pypi("lzu", "Lanzhou University", "https://mirror.lzu.edu.cn/pypi/web/simple"),
    _pypi("hust", "HUST", "https://mirrors.hust.edu.cn/pypi/web/simple"),
    _pypi("aliyun", "Alibaba Cloud", "https://mirrors.aliyun.com/pypi/simple", notes="filters by User-Agent"),
    _pypi("tencent", "Tencent Cloud", "https://mirrors.cloud.tencent.com/pypi/simple"),
    _pypi("huawei", "Huawei Cloud", "https://mirrors.huaweicloud.com/repository/pypi/simple"),
    _pypi("volcengine", "Volcengine, ByteDance", "https://mirrors.volces.com/pypi/simple"),
    _pypi("163", "NetEase", "https://mirrors.163.com/pypi/simple", notes="slow, about a day behind"),
    _pypi("baidu", "Baidu", "https://mirror.baidu.com/pypi/simple", notes="unverified"),
    _pypi("kakao", "Kakao", "https://mirror.kakao.com/pypi/simple", "KR", "unverified"),
    _pypi("jaist", "JAIST", "https://ftp.jaist.ac.jp/pub/pypi/simple", "JP", "unverified"),
    _pypi("garr", "GARR", "https://pypi.mirror.garr.it/simple", "IT", "unverified"),
    Mirror(
        "upstream",
        "PyTorch",
        "pytorch",
        "https://download.pytorch.org/whl/{variant}",
        "global",
        "simple",
        upstream=True,
        notes="answers 403 for a package that it lacks",
    ),
    Mirror(
        "aliyun",
        "Alibaba Cloud",
        "pytorch",
        "https://mirrors.aliyun.com/pytorch-wheels/{variant}",
        "CN",
        "flat",
        notes="one page of links without hashes",
    ),
    Mirror("nju", "Nanjing University", "pytorch", "https://mirror.nju.edu.cn/pytorch/whl/{variant}", "CN", "simple"),
    Mirror(
        "sjtu",
        "SJTUG, Shanghai Jiao Tong University",
        "pytorch",
        "https://mirror.sjtu.edu.cn/pytorch-wheels/{variant}",
        "CN",
        "simple",
        notes="a miss redirects to PyTorch itself",
    ),
    Mirror(
        "upstream",
        "anaconda.org",
        "conda",
        "https://conda.anaconda.org",
        "global",
        "channels",
        upstream=True,
        notes="its pytorch channel ended with 2.5",
    ),
    Mirror("prefix", "prefix.dev", "conda", "https://prefix.dev", "global", "channels"),
    _conda(
        "tuna",
        "TUNA, Tsinghua University",
        "https://mirrors.tuna.tsinghua.edu.cn/anaconda",
        "no nvidia channel; was three days behind in August 2026",
    ),
    _conda("bfsu", "BFSU, Beijing Foreign Studies University", "https://mirrors.bfsu.edu.cn/anaconda"),
    Mirror(
        "ustc",
        "USTC",
        "conda",
        "https://mirrors.ustc.edu.cn/anaconda/cloud",
        "CN",
        "channels",
        notes="a cache; no defaults",
    ),
    _conda("nju", "Nanjing University", "https://mirror.nju.edu.cn/anaconda"),
    _conda("pku", "Peking University", "https://mirrors.pku.edu.cn/anaconda"),
    _conda("bjtu", "Beijing Jiaotong University", "https://mirror.bjtu.edu.cn/anaconda"),
    _conda("lzu", "Lanzhou University", "https://mirror.lzu.edu.cn/anaconda"),
    _conda("sjtu", "SJTUG, Shanghai Jiao Tong University", "https://mirror.sjtu.edu.cn/anaconda"),
    _conda("njtech", "Nanjing Tech University", "https://mirrors.njtech.edu.cn/anaconda"),
    _conda("aliyun", "Alibaba Cloud", "https://mirrors.aliyun.com/anaconda"),
    Mirror(
        "sustech",
        "SUSTech",
        "conda",
        "https://mirrors.sustech.edu.cn/anaconda-extra/cloud",
        "CN",
        "channels",
        notes="the nvidia channel only",
    ),
    Mirror("upstream", "Docker Hub", "docker", "https://registry-1.docker.io", "global", "registry", upstream=True),
    Mirror(
        "daocloud",
        "DaoCloud",
        "docker",
        "https://docker.m.daocloud.io",
        "CN",
        "registry",
        notes="1 MiB/s a blob, 1 GiB in 2 hours, 20 requests a minute; a list of allowed images",
        max_rate=1 << 20,
        requests_per_minute=20,
    ),
    _docker("1ms", "https://docker.1ms.run"),
    _docker("dockerproxy", "https://dockerproxy.net"),
    _docker("1panel", "https://docker.1panel.live"),
    _docker("xuanyuan", "https://docker.xuanyuan.me"),
    _docker("vvvv", "https://proxy.vvvv.ee"),
    _docker("dockerproxy-link", "https://dockerproxy.link"),
    _docker("registry-cyou", "https://registry.cyou"),
    Mirror("upstream", "Hugging Face", "hub", "https://huggingface.co", "global", "huggingface", upstream=True),
    Mirror(
        "hf-mirror",
        "hf-mirror.com",
        "hub",
        "https://hf-mirror.com",
        "CN",
        "huggingface",
        notes="needs HF_HUB_DISABLE_XET=1; answers 429 under load",
    ),
    Mirror(
        "gitee", "Gitee AI", "hub", "https://hf-api.gitee.com", "CN", "huggingface", notes="lacks many repositories"
    ),
    Mirror(
        "modelscope",
        "ModelScope",
        "hub",
        "https://www.modelscope.cn",
        "CN",
        "modelscope",
        notes="its revisions are its own: files are matched by sha256",
    ),
    Mirror("modelscope-ai", "ModelScope, international", "hub", "https://www.modelscope.ai", "global", "modelscope"),
    _apt("tuna", "TUNA, Tsinghua University", "https://mirrors.tuna.tsinghua.edu.cn/{variant}"),
    _apt("bfsu", "BFSU, Beijing Foreign Studies University", "https://mirrors.bfsu.edu.cn/{variant}"),
    _apt("ustc", "USTC", "https://mirrors.ustc.edu.cn/{variant}"),
    _apt("aliyun", "Alibaba Cloud", "https://mirrors.aliyun.com/{variant}"),
    _apt("volcengine", "Volcengine, ByteDance", "https://mirrors.volces.com/{variant}"),
    _apt("tencent", "Tencent Cloud", "https://mirrors.tencent.com/{variant}"),
    _apt("huawei", "Huawei Cloud", "https://mirrors.huaweicloud.com/{variant}", "ubuntu only"),
    Mirror("upstream", "Astral", "python", "https://releases.astral.sh", "global", "files", upstream=True),
    Mirror(
        "github",
        "GitHub releases",
        "python",
        "https://github.com/astral-sh/python-build-standalone/releases/download",
        "global",
        "files",
        upstream=True,
    ),
    Mirror(
        "nju",
        "Nanjing University",
        "python",
        "https://mirror.nju.edu.cn/github-release/astral-sh/python-build-standalone",
        "CN",
        "files",
    ),
    Mirror(
        "ustc",
        "USTC",
        "python",
        "https://mirrors.ustc.edu.cn/github-release/astral-sh/python-build-standalone",
        "CN",
        "files",
        notes="the latest release only",
    ),
)
