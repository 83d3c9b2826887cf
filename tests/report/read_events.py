"""Prints the scalars of a folder of event files as TensorBoard's own reader has them: {tag: [[step, value], ...]}."""

import json
import math
import sys

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

events = EventAccumulator(sys.argv[1], size_guidance={"scalars": 0})
events.Reload()
scalars = {
    tag: [[event.step, event.value if math.isfinite(event.value) else 0.0] for event in events.Scalars(tag)]
    for tag in events.Tags()["scalars"]
}
walls = [event.wall_time for tag in scalars for event in events.Scalars(tag)]
print(json.dumps({"scalars": scalars, "wall": [min(walls), max(walls)] if walls else []}))
