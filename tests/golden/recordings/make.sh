#!/usr/bin/env bash
# The files of this folder, with ffmpeg: a tone of 440 Hz that begins with a rise of 50 ms, 0.3 s at 44.1 kHz (or as named), so
# that a decoder that shifts or cuts it shows.
set -euo pipefail
cd "$(dirname "$0")"
tone() { # rate, channels, file, options…
  local rate=$1 channels=$2 file=$3 channel='0.5*sin(2*PI*440*t)*min(1\,t/0.05)'
  shift 3
  [ "$channels" = 1 ] || channel="$channel|$channel"
  ffmpeg -v error -y -f lavfi -i "aevalsrc=exprs=$channel:s=$rate:d=0.3" "$@" "$file"
}
tone 44100 1 tone.mp3 -b:a 64k
tone 48000 2 tone-48k.mp3 -b:a 64k
tone 44100 1 tone.m4a -c:a aac -b:a 64k
tone 44100 1 tone.ogg -c:a libvorbis -q:a 2
tone 22050 1 tone-22k.flac
tone 44100 1 tone.aac -c:a aac -b:a 64k
tone 48000 1 tone.opus -c:a libopus -b:a 24k
tone 16000 2 tone-16k.aiff
tone 44100 1 tone-alac.m4a -c:a alac
