"""Two numbers for each input: the words of its samples, and how many first words they have.

Reads a line of JSON for each input, and prints one for each.
"""

import json
import sys

for line in sys.stdin:
    row = json.loads(line)
    samples = [text.split() for text in row["samples"]]
    openings = {words[0] for words in samples if words}
    values = {
        "words": sum(len(words) for words in samples) / len(samples),
        "share_openings": len(openings) / len(samples),
    }
    print(json.dumps({"split": row["split"], "id": row["id"], "values": values}))
