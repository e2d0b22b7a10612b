"""How files come from several sources at once; `mirrors.fetch` is the way in, and tells the flow.

schedule, work   who brings which bytes next: decisions only
crew, transfer   the connections that bring them, and one request
download, keeper one file: what others see of it, and its way into the store
blame            whose bytes were wrong
"""
