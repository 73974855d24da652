#!/bin/sh
# Count the labels in an event file, the most frequent first. Needs jq.
#
# usage: count_labels.sh EVENTS.jsonl
set -eu
jq -r 'select(.type == "moodring.emotion.v1") | .data.label // .data.state' "$1" | sort | uniq -c | sort -rn
