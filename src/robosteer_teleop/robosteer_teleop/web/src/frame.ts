// The 96-byte pose frame, little endian. Layout: docs/reference/teleop-protocol.md.
import { VERSION } from "./messages";

export const FRAME_SIZE = 96;
export const TRACKED = 1;
export const EMULATED = 2;
export const VISIBLE = 4;

export interface Pose {
  position: DOMPointReadOnly;
  orientation: DOMPointReadOnly;
}

export interface Sample {
  seq: number;
  frameTime: number;
  sendTime: number;
  visible: boolean;
  grip: (Pose & { emulated: boolean }) | null;
  head: Pose | null;
  buttons: readonly GamepadButton[];
  axes: readonly (number | null)[];
}

// An index without a button (2) is left out.
const BUTTON_INDICES = [0, 1, 3, 4, 5];
const STICK_AXES = [2, 3] as const;

export function encode(sample: Sample, view: DataView): void {
  const { grip, head, buttons, axes } = sample;
  view.setUint8(0, VERSION);
  view.setUint8(1, (grip ? TRACKED : 0) | (grip?.emulated ? EMULATED : 0) | (sample.visible ? VISIBLE : 0));
  view.setUint16(2, buttonBits(buttons), true);
  view.setUint32(4, sample.seq, true);
  view.setFloat64(8, sample.sendTime, true);
  view.setFloat64(16, sample.frameTime, true);
  putPose(view, 24, grip);
  view.setFloat32(52, clamp(buttons[0]?.value, 0, 1), true);
  view.setFloat32(56, clamp(buttons[1]?.value, 0, 1), true);
  view.setFloat32(60, clamp(axes[STICK_AXES[0]], -1, 1), true);
  view.setFloat32(64, clamp(axes[STICK_AXES[1]], -1, 1), true);
  putPose(view, 68, head);
}

function buttonBits(buttons: readonly GamepadButton[]): number {
  return BUTTON_INDICES.reduce((bits, index) => bits | (buttons[index]?.pressed ? 1 << index : 0), 0);
}

function putPose(view: DataView, offset: number, pose: Pose | null): void {
  const p = pose?.position;
  const q = pose?.orientation;
  const values = [p?.x ?? 0, p?.y ?? 0, p?.z ?? 0, q?.x ?? 0, q?.y ?? 0, q?.z ?? 0, q?.w ?? 1];
  values.forEach((value, index) => view.setFloat32(offset + 4 * index, value, true));
}

// Browsers leave empty axes null; values may pass their range by rounding.
function clamp(value: number | null | undefined, low: number, high: number): number {
  return Math.min(high, Math.max(low, value ?? 0));
}
