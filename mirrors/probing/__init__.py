"""How mirrors are measured; `mirrors.probe` is the way in, and tells the flow.

measurement      what is asked, and what was found
contender        one mirror's rounds
reader, answer   what it is asked within its limits, and how its answers are judged
parts, pace      who reads which part of the file, and how fast it came
hosts            who has its bytes from somebody else
"""
