// What the operator feels and hears. The server decides when; the page knows how each cue sounds and reads.
import type { Haptic } from "./messages";

interface Sound {
  text: string;
  tones: readonly (readonly [hertz: number, milliseconds: number])[];
}

const SOUNDS: Record<string, Sound> = {
  engage: { text: "engaged", tones: [[660, 40]] },
  release: { text: "released", tones: [[440, 40]] },
  refuse: { text: "refused", tones: [[220, 80], [180, 120]] },
  limiter: { text: "limited", tones: [] },
  record_start: { text: "recording", tones: [[523, 90], [784, 140]] },
  record_stop: { text: "stopped", tones: [[784, 90], [523, 140]] },
  saved: { text: "saved", tones: [[523, 70], [659, 70], [784, 140]] },
  discarded: { text: "discarded", tones: [[392, 90], [262, 160]] },
  stream_failed: { text: "a stream failed", tones: [[196, 400]] },
  tracking_lost: { text: "tracking lost", tones: [[330, 60], [330, 60], [330, 60]] },
  countdown: { text: "", tones: [[440, 60]] },
};
const VOLUME = 0.15;
const SHOWN_CUES = 8;

export class Cues {
  private audio: AudioContext | null = null;

  constructor(private readonly list: HTMLElement) {}

  // Browsers allow sound only after a click.
  unlock(): void {
    this.audio ??= new AudioContext();
    void this.audio.resume();
  }

  play(name: string, haptic: Haptic, source: XRInputSource | null): void {
    const sound = SOUNDS[name];
    this.pulse(haptic, source);
    if (!sound) return;
    this.tones(sound);
    if (sound.text) this.write(sound.text);
  }

  private pulse(haptic: Haptic, source: XRInputSource | null): void {
    const actuator = source?.gamepad?.hapticActuators?.[0];
    if (!actuator) return;
    for (let index = 0; index < haptic.repeats; index++) {
      const start = () => void actuator.pulse(haptic.strength, haptic.duration_ms);
      if (index === 0) start();
      else setTimeout(start, 2 * index * haptic.duration_ms);
    }
  }

  private tones(sound: Sound): void {
    const audio = this.audio;
    if (!audio) return;
    const gain = audio.createGain();
    gain.gain.value = VOLUME;
    gain.connect(audio.destination);
    let start = audio.currentTime;
    for (const [hertz, milliseconds] of sound.tones) {
      const tone = audio.createOscillator();
      tone.frequency.value = hertz;
      tone.connect(gain);
      tone.start(start);
      start += milliseconds / 1000;
      tone.stop(start);
    }
  }

  private write(text: string): void {
    const item = document.createElement("li");
    item.textContent = `${new Date().toLocaleTimeString()} ${text}`;
    this.list.prepend(item);
    while (this.list.children.length > SHOWN_CUES) this.list.lastElementChild?.remove();
  }
}
