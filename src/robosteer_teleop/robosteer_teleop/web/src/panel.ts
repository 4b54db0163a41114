// Draws the lines onto a canvas, the texture of the panel in the headset.
import type { Level, Line } from "./lines";

export const PANEL_WIDTH = 1024;
export const PANEL_HEIGHT = 640;
const MARGIN = 36;
const COLOURS: Record<Level, string> = {
  title: "#ffffff",
  plain: "#c3ccd6",
  good: "#7fe0a0",
  warn: "#ffd479",
  error: "#ff8f80",
};

export function drawPanel(canvas: HTMLCanvasElement, lines: readonly Line[]): void {
  const context = canvas.getContext("2d");
  if (!context) return;
  context.clearRect(0, 0, PANEL_WIDTH, PANEL_HEIGHT);
  context.fillStyle = "rgba(12, 17, 22, 0.85)";
  context.fillRect(0, 0, PANEL_WIDTH, PANEL_HEIGHT);
  context.fillStyle = COLOURS[worst(lines)];
  context.fillRect(0, 0, 14, PANEL_HEIGHT);
  let y = MARGIN;
  context.textBaseline = "top";
  for (const { text, level } of lines) {
    const size = level === "title" ? 72 : 44;
    context.font = `${level === "title" ? 600 : 400} ${size}px sans-serif`;
    context.fillStyle = COLOURS[level];
    context.fillText(text, MARGIN, y, PANEL_WIDTH - 2 * MARGIN);
    y += size * 1.25;
  }
}

function worst(lines: readonly Line[]): Level {
  const order: Level[] = ["error", "warn", "good"];
  return order.find((level) => lines.some((line) => line.level === level)) ?? "plain";
}
