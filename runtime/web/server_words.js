// What the server says in English, in Chinese where that is known. What is not known stays as the server said it.
import { tag } from "./words.js";

const CHINESE = [
  [/^decodes (\d+) frames? at a time$/, "每次解码 $1 帧"],
  [/^decodes (\d+) frames? at a time: they may flicker.*$/, "每次解码 $1 帧：画面之间可能略有闪烁"],
  [/^decodes in overlapping tiles.*$/, "分块解码：较慢，边缘可能略微可见"],
  [/^computes the widest layers one frame at a time.*$/, "最宽的层逐帧计算：较慢"],
  [/^keeps the parts of the model in main memory until they are needed.*$/, "模型各部分用到时才从内存调入：较慢"],
  [/^keeps the weights that denoise in 8 bits.*$/, "去噪权重用 8 位存放：视频略有变化"],
  [/^keeps the model in main memory and brings it over block by block.*$/, "模型放在内存中，每一步逐块调入：慢得多"],
  [
    /^(\d+)x(\d+) with (\d+) frames needs ([\d.]+) GiB of memory, and there are ([\d.]+) GiB/,
    "$1 × $2、$3 帧需要 $4 GiB 显存或内存，现有 $5 GiB",
  ],
  [/; what would fit: /, "；可行的有："],
  [/(\d+)x(\d+) with (\d+) frames/g, "$1 × $2、$3 帧"],
  [/, (?:or )?(?=\d+ × )/g, "；或 "],
  [/^this file is not a picture that can be read.*$/, "无法读取这个文件：请使用 PNG、JPEG 或 WebP 图片"],
  [/^the picture is too small.*?(\d+) pixels.*$/, "图片太小：每边至少 $1 像素"],
  [/^the picture is animated.*$/, "这是动图：请使用静态图片"],
  [/^the picture has more than 8 bits.*$/, "图片每通道超过 8 位：请另存为 8 位"],
];

/** The server's words for a person: `textContent` and its `lang`, as properties of an element. */
export function heard(text) {
  if (!tag().startsWith("zh")) return { textContent: text, lang: "en" };
  const chinese = CHINESE.reduce((words, [pattern, meaning]) => words.replace(pattern, meaning), text);
  return { textContent: chinese, lang: chinese === text ? "en" : tag() };
}
