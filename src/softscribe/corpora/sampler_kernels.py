"""The inner loop of the SoundFont sampler."""

import numpy as np
from numba import njit

SILENCE = 1e-5  # -100 dB: the range of the volume envelope, and the loudness at which a note ends

VOICE = np.dtype(
    [
        ("first_output", np.int64),  # output sample at which the note begins
        ("release_output", np.int64),  # output sample at which the key is released
        ("first_sample", np.float64),  # positions in the sample data
        ("end_sample", np.int64),
        ("loop_start", np.int64),
        ("loop_end", np.int64),
        ("loop_mode", np.int64),  # 0 never, 1 for ever, 3 until the release
        ("step_samples", np.float64),  # sample data per output sample: the pitch
        ("gain", np.float64),
        ("delay_outputs", np.int64),  # the volume envelope: linear attack, then straight lines in decibels
        ("attack_outputs", np.int64),
        ("hold_outputs", np.int64),
        ("decay_factor", np.float64),
        ("sustain_level", np.float64),
        ("release_factor", np.float64),
        ("lowpass", np.bool_),  # a second-order section, a0 = 1
        ("b0", np.float64),
        ("b1", np.float64),
        ("a1", np.float64),
        ("a2", np.float64),
    ]
)


@njit(cache=True, error_model="numpy")
def add_voices(output: np.ndarray, samples: np.ndarray, voices: np.ndarray) -> None:
    """Add every voice to `output`, one after another, so that the sum does not depend on the machine's cores.

    The volume envelope of a voice is delay, linear attack, hold, decay in decibels to the sustained level, release in decibels.

    Shape: output (outputs,) float64; samples (samples,) float32; voices (voices,) of dtype `VOICE`
    """
    for v in range(len(voices)):
        voice = voices[v]
        # Locals, since a record's fields would be read from memory again for every sample.
        first_output, delay, attack = voice.first_output, voice.delay_outputs, voice.attack_outputs
        attack_end = delay + attack
        hold_end = attack_end + voice.hold_outputs
        release = voice.release_output - first_output
        decay_factor, sustain_level, release_factor = voice.decay_factor, voice.sustain_level, voice.release_factor
        end_sample, loop_start, loop_end, loop_mode = voice.end_sample, voice.loop_start, voice.loop_end, voice.loop_mode
        step, gain, lowpass = voice.step_samples, voice.gain, voice.lowpass
        b0, b1, a1, a2 = voice.b0, voice.b1, voice.a1, voice.a2
        loop_length = loop_end - loop_start
        position = voice.first_sample
        looping = loop_mode != 0
        level = 0.0
        x1 = x2 = y1 = y2 = 0.0
        for t in range(delay, len(output) - first_output):
            if t >= release:
                level *= release_factor
                looping = loop_mode == 1
                if gain * level < SILENCE:
                    break
            elif t < attack_end:
                level = (t + 1 - delay) / attack
            elif t < hold_end:
                level = 1.0
            else:
                level = max(level * decay_factor, sustain_level)
                if gain * level < SILENCE:
                    break

            if looping and position >= loop_end:
                position -= loop_length * ((position - loop_start) // loop_length)
            i = int(position)
            after, second = i + 1, i + 2
            if looping:
                if after >= loop_end:
                    after -= loop_length
                if second >= loop_end:
                    second -= loop_length
            elif second >= end_sample:
                break
            f = position - i
            p0, p1, p2, p3 = samples[max(i - 1, 0)], samples[i], samples[after], samples[second]
            # Catmull-Rom: smooth through the four neighbours
            x = p1 + 0.5 * f * (p2 - p0 + f * (2 * p0 - 5 * p1 + 4 * p2 - p3 + f * (3 * (p1 - p2) + p3 - p0)))
            position += step
            if lowpass:
                y = b0 * (x + x2) + b1 * x1 - a1 * y1 - a2 * y2
                x2, x1, y2, y1 = x1, x, y1, y
                x = y
            output[first_output + t] += gain * level * x
