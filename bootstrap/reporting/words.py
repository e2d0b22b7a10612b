"""The words of reports in English and in Chinese, and which of the two a reader gets."""

# ruff: noqa: RUF001 - Chinese has commas and colons of its own

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Literal

from bootstrap.report import Timing

Language = Literal["en", "zh"]
LANGUAGES: tuple[Language, ...] = ("en", "zh")
_VARIABLES = ("LC_ALL", "LC_MESSAGES", "LANG")  # the first that is set decides

_WORDS: Mapping[str, tuple[str, str]] = {
    "": ("", ""),
    "title": ("Where the time went", "时间花在哪里"),
    "deployment": ("Deployment", "部署"),
    "deployments": ("Deployments", "部署记录"),
    "compared": ("Two deployments side by side", "两次部署对比"),
    "phase": ("phase", "阶段"),
    "part": ("part", "步骤"),
    "seconds": ("seconds", "用时"),
    "total": ("total", "合计"),
    "bytes": ("bytes", "数据量"),
    "from": ("from", "来源"),
    "retries": ("retries", "重试"),
    "when": ("when", "时间轴"),
    "began": ("began", "开始于"),
    "difference": ("difference", "差值"),
    "longest": ("Longest", "最耗时"),
    "covered": ("Covered by phases", "各阶段覆盖"),
    "of": ("of", "/"),
    "mirrors": ("Where the bytes came from", "数据来源"),
    "mirror": ("mirror", "镜像"),
    "share": ("share", "占比"),
    "layers": ("Layers of the image, lowest first", "镜像的各层（自下而上）"),
    "layer": ("layer", "层"),
    "sent": ("sent", "已发送"),
    "there already": ("there already", "原已存在"),
    "mounted": ("mounted", "已挂载"),
    "files": ("Files that took longest", "耗时最长的文件"),
    "file": ("file", "文件"),
    "work": ("of work", "实际工作，分散进行"),
    "local": ("this machine", "本机"),
    "store": ("store", "本地存储"),
    "speed": ("Speed of the download", "下载速度"),
    "peak": ("peak", "峰值"),
    "prediction": ("Prediction", "预测"),
    "predicted": ("If all bytes had come from upstream alone", "若全部数据只从上游下载"),
    "measured": ("measured", "实测"),
    "upstream": ("upstream", "上游"),
    "no prediction": ("No prediction", "无法预测"),
    "prediction note": (
        "A prediction, not a measurement: the bytes divided by the speed that upstream was measured at, and all other "
        "phases as they were.",
        "这是预测，不是实测：用数据量除以实测的上游速度，其余阶段不变。",
    ),
    "network": ("network", "网络"),
    "disk": ("disk and processor", "磁盘与处理器"),
    "runs": ("Python and the model", "Python 与模型"),
    "model": ("model", "模型"),
    "other": ("preparation", "准备"),
    "none": ("none", "无"),
}

_SECTIONS: Mapping[str, tuple[str, str]] = {
    "install": ("install", "安装"),
    "build-image": ("build-image", "构建镜像"),
    "generate": ("generate", "生成视频"),
    "run": ("run", "启动服务"),
}

_FACTS: Mapping[str, tuple[str, str]] = {
    "model": ("model", "模型"),
    "torch": ("torch", "torch"),
    "python": ("python", "Python"),
    "mirror": ("mirror", "镜像"),
    "image": ("image", "镜像文件"),
    "picture": ("picture", "图片"),
    "video": ("video", "视频"),
    "dropped": ("dropped", "已弃用"),
    "size": ("size", "大小"),
    "device": ("device", "设备"),
    "precision": ("precision", "精度"),
}

# Chinese for phases; in English each phase has a title of its own. A part is looked up with its step, then without.
_PHASES: Mapping[str, str] = {
    "start": "启动 i2v-setup",
    "detect": "检测机器",
    "choose": "选择镜像",
    "look": "查看已有镜像",
    "plan": "制定计划",
    "wait": "等待另一次安装",
    "bundle": "导入离线包",
    "sweep": "清理被替换的环境",
    "environment": "创建环境",
    "configs": "写入配置",
    "packages": "安装软件包",
    "resolve": "查找软件包",
    "solve": "求解依赖",
    "download": "下载",
    "verify": "校验",
    "unpack": "解包",
    "link": "链接",
    "runtime": "加入运行时",
    "weights": "获取模型权重",
    "weights.choose": "测量模型站点",
    "checks": "检查环境",
    "python": "启动 Python",
    "imports": "导入 torch 与 diffusers",
    "bytecode": "编译字节码",
    "load": "加载模型",
    "generation": "试生成小视频",
    "current": "切换为当前环境",
    "container": "启动容器",
    "server": "启动服务进程",
    "worker imports": "导入依赖库",
    "model load": "加载模型",
    "warm-up": "预热",
    "first frame": "第一帧",
    "denoise": "去噪",
    "decode": "解码画面",
    "encode": "编码视频",
    "find": "查找软件包",
    "wheels": "下载软件包",
    "build": "构建镜像",
    "inputs": "准备构建输入",
    "base": "基础镜像",
    "app": "加入运行时",
    "export": "导出镜像",
    "learn": "获取文件校验值",
    "files": "检查文件",
}


def language(asked: str | None = None) -> Language:
    """The language that was asked for; without a wish that of the reader's locale: Chinese or English."""
    locale = asked or next((value for name in _VARIABLES if (value := os.environ.get(name))), "")
    return "zh" if locale.lower().startswith("zh") else "en"


def say(word: str, lang: Language) -> str:
    """A word of the report."""
    return _WORDS[word][LANGUAGES.index(lang)]


def section(kind: str, lang: Language) -> str:
    """A section's kind."""
    return _SECTIONS.get(kind, (kind, kind))[LANGUAGES.index(lang)]


def fact(key: str, lang: Language) -> str:
    """What a section's fact is about."""
    return _FACTS.get(key, (key, key))[LANGUAGES.index(lang)]


def outcome(name: str, lang: Language) -> str:
    """How a layer came to be on the other side."""
    return _WORDS.get(name, (name, name))[LANGUAGES.index(lang)]


def phase(timing: Timing, lang: Language) -> str:
    """A phase's title."""
    return timing.title if lang == "en" else step(timing.phase, lang, timing.title)


def step(name: str, lang: Language, otherwise: str | None = None) -> str:
    """A phase by its name alone."""
    if lang == "en":
        return otherwise or name
    return _PHASES.get(name) or _PHASES.get(name.rpartition(".")[2], otherwise or name)
