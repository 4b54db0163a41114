// What the operator reads, as plain lines: the panel in the headset and the flat page show the same. Pure.
import type { State } from "./messages";

export type Level = "title" | "plain" | "good" | "warn" | "error";

export interface Line {
  text: string;
  level: Level;
}

const PHASES: Record<string, string> = {
  offline: "Offline",
  idle: "Not ready",
  ready: "Ready",
  countdown: "Starting",
  recording: "Recording",
  review: "Keep or discard?",
  saving: "Saving",
};

// What each limiter means for somebody whose arm "stopped following".
const LIMITERS: Record<string, string> = {
  box: "edge of the workspace",
  speed: "too fast",
  leash: "arm cannot follow",
  jump: "tracking jumped",
  joint: "near a joint limit or a singularity",
};

export const OLD_POSE_S = 0.08;

export function lines(state: State, connected: boolean): Line[] {
  if (!connected) return [line("Link lost", "error"), line("The arm holds. Reconnecting…", "warn")];
  return [
    ...title(state),
    ...clutch(state),
    ...limiters(state),
    ...notice(state),
    ...counts(state),
    ...health(state),
    ...cameras(state),
  ];
}

function line(text: string, level: Level = "plain"): Line {
  return { text, level };
}

function title(state: State): Line[] {
  const phase = PHASES[state.phase ?? ""] ?? state.phase ?? "Waiting for the robot";
  const time =
    state.countdown_s !== undefined ? `  ${Math.ceil(state.countdown_s)}`
    : state.elapsed_s !== undefined ? `  ${clockText(state.elapsed_s)}`
    : "";
  const label = state.label ? `  ${state.label}` : "";
  const found = [line(phase + time + label, "title")];
  if (state.instruction) found.push(line(state.instruction));
  if (state.hint) found.push(line(state.hint, "good"));
  return found;
}

function clutch(state: State): Line[] {
  if (state.link && !state.link.armed) return [line("Not armed: the robot host must enable motion", "warn")];
  if (state.need_press) return [line("Let the grip go, then squeeze again", "warn")];
  if (state.engaged === undefined) return [];
  return [state.engaged ? line("Arm follows your hand", "good") : line("Squeeze the grip to move")];
}

function limiters(state: State): Line[] {
  const active = state.limiters ?? [];
  return active.length > 0 ? [line(`Limited: ${active.map((name) => LIMITERS[name] ?? name).join(", ")}`, "warn")] : [];
}

function notice(state: State): Line[] {
  const level = state.notice_level === "error" ? "error" : state.notice_level === "warn" ? "warn" : "plain";
  return state.notice ? [line(state.notice, level)] : [];
}

function counts(state: State): Line[] {
  if (state.kept === undefined) return [];
  const wanted = state.wanted !== undefined ? ` / ${state.wanted}` : "";
  const discarded = state.discarded ? `, ${state.discarded} discarded` : "";
  return [line(`${state.kept}${wanted} kept${discarded}`)];
}

function health(state: State): Line[] {
  const parts: string[] = [];
  const age = state.link?.pose_age_s ?? null;
  if (age !== null) parts.push(`pose ${Math.round(age * 1000)} ms`);
  if (state.link) parts.push(`${Math.round(state.link.rate_hz)} Hz`);
  if (state.scale !== undefined) parts.push(`scale ${state.scale.toFixed(2)}`);
  if (state.lead_mm !== undefined) parts.push(`lead ${Math.round(state.lead_mm)} mm`);
  if (state.disk_minutes !== undefined) parts.push(`disk ${Math.floor(state.disk_minutes)} min`);
  const old = age !== null && age > OLD_POSE_S;
  return parts.length > 0 ? [line(parts.join("   "), old ? "warn" : "plain")] : [];
}

function cameras(state: State): Line[] {
  return Object.entries(state.cameras ?? {}).map(([name, camera]) =>
    line(
      `${name} ${camera.rate_hz.toFixed(0)} of ${camera.expected_hz.toFixed(0)} Hz`,
      camera.level === "fail" ? "error" : camera.level === "warn" ? "warn" : "good",
    ),
  );
}

function clockText(seconds: number): string {
  const whole = Math.max(0, Math.floor(seconds));
  return `${Math.floor(whole / 60)}:${String(whole % 60).padStart(2, "0")}`;
}
