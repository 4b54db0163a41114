// The words of docs/reference/teleop-protocol.md.

export const VERSION = 1;
export type Role = "operator" | "observer";

export interface Haptic {
  strength: number;
  duration_ms: number;
  repeats: number;
}

export interface Link {
  connected: boolean;
  armed: boolean;
  rate_hz: number;
  pose_age_s: number | null;
  rtt_s: number | null;
  observers: number;
}

export interface Camera {
  rate_hz: number;
  expected_hz: number;
  level: "ok" | "warn" | "fail";
}

export interface State {
  phase?: string;
  engaged?: boolean;
  need_press?: boolean;
  instruction?: string;
  hint?: string;
  kept?: number;
  wanted?: number;
  discarded?: number;
  elapsed_s?: number;
  countdown_s?: number;
  label?: string;
  cameras?: Record<string, Camera>;
  disk_minutes?: number;
  limiters?: string[];
  scale?: number;
  lead_mm?: number;
  yaw_rad?: number;
  notice?: string;
  notice_level?: "info" | "warn" | "error";
  link?: Link;
}

export type Down =
  | { type: "welcome"; v: number; role: Role; token: string; expires_s: number }
  | ({ type: "state" } & State)
  | ({ type: "haptic"; name: string } & Haptic)
  | { type: "cameras"; names: string[] }
  | { type: "ping"; id: number };

export const Close = {
  credentials: 4401,
  operatorTaken: 4409,
  replaced: 4410,
  locked: 4423,
} as const;

// The client clock: monotonic in this page, near the Unix epoch, in s.
export function clock(now: DOMHighResTimeStamp = performance.now()): number {
  return (performance.timeOrigin + now) / 1000;
}
