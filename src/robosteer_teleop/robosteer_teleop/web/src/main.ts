// The operator's page: pairing, the flat view, the way into the headset view.
import { Cues } from "./cues";
import { Feeds } from "./feeds";
import { lines } from "./lines";
import { Link, type LinkEvents } from "./link";
import type { Down, Role, State } from "./messages";
import { HeadsetScene } from "./scene";
import { HeadsetSession } from "./xr";

const $ = <T extends HTMLElement = HTMLElement>(id: string): T => document.getElementById(id) as T;

const feeds = new Feeds();
const cues = new Cues($("cues"));
let link: Link | null = null;
let state: State = {};
let headset: HeadsetSession | null = null;
let scene: HeadsetScene | null = null;

const events: LinkEvents = {
  message(message: Down): void {
    if (message.type === "welcome") onWelcome(message.role);
    else if (message.type === "state") onState(message);
    else if (message.type === "haptic") cues.play(message.name, message, headset?.hand ?? null);
    else if (message.type === "cameras") feeds.setNames(message.names);
  },
  image(camera: number, jpeg: Blob): void {
    feeds.show(camera, jpeg).then(showFigures, (error: unknown) => problem(`camera image: ${String(error)}`));
  },
  closed(code: number, reason: string, final: boolean): void {
    problem(reason || (final ? `refused (${code})` : "Link lost; reconnecting…"));
    if (final) showPairing();
    render();
  },
};

function connect(role: Role, code: string | null): void {
  link?.close(false);
  link = new Link(role, events);
  if (code !== null || link.hasToken) link.connect(code);
  else showPairing();
}

function onWelcome(role: Role): void {
  problem("");
  $("pairing").hidden = true;
  $("controls").hidden = false;
  headset?.restart();
  askForCameras();
  if (role === "operator") offerHeadset().catch(headsetProblem);
  render();
}

async function offerHeadset(): Promise<void> {
  const mode = await HeadsetSession.mode();
  const button = $<HTMLButtonElement>("enter");
  button.hidden = mode === null;
  if (mode === null) {
    problem(isSecureContext ? "No headset found in this browser." : "Open this page by https or by localhost.");
    return;
  }
  button.onclick = () => {
    cues.unlock();
    scene ??= new HeadsetScene(feeds);
    headset ??= new HeadsetSession(scene, () => link, () => state);
    headset.start(mode).catch(headsetProblem);
  };
}

function headsetProblem(error: unknown): void {
  problem(`headset view: ${String(error)}`);
}

function onState(message: State): void {
  state = message;
  render();
}

function render(): void {
  const connected = link?.connected ?? false;
  $("link").textContent = connected ? `connected as ${link?.role}` : "not connected";
  const rows = lines(state, connected).map(({ text, level }) => {
    const row = document.createElement("p");
    row.textContent = text;
    row.className = level;
    return row;
  });
  $("state").replaceChildren(...rows);
}

function showPairing(): void {
  $("pairing").hidden = false;
  $("controls").hidden = true;
  $<HTMLInputElement>("code").focus();
}

function problem(text: string): void {
  $("problem").textContent = text;
}

function askForCameras(): void {
  const enabled = $<HTMLInputElement>("show-cameras").checked;
  link?.send({ type: "cameras", enabled });
  if (enabled) return;
  scene?.hidePanes();
  $("cameras").replaceChildren();
}

function showFigures(): void {
  if (!$<HTMLInputElement>("show-cameras").checked) return;
  for (const [name, canvas] of feeds.canvases) {
    if (canvas.isConnected) continue;
    const figure = document.createElement("figure");
    const caption = document.createElement("figcaption");
    caption.textContent = name;
    figure.append(canvas, caption);
    $("cameras").append(figure);
  }
}

function chosenRole(): Role {
  return document.querySelector<HTMLInputElement>("input[name=role]:checked")?.value === "observer" ? "observer" : "operator";
}

async function showFingerprint(): Promise<void> {
  const about = (await (await fetch("about.json")).json()) as { fingerprint: string };
  if (about.fingerprint && location.protocol === "https:") $("fingerprint").textContent = about.fingerprint;
}

function start(): void {
  $("pairing").addEventListener("submit", (event) => {
    event.preventDefault();
    problem("");
    connect(chosenRole(), $<HTMLInputElement>("code").value);
  });
  $("show-cameras").addEventListener("change", askForCameras);
  $("leave").addEventListener("click", () => {
    headset?.end();
    link?.close(true);
    showPairing();
    render();
  });
  window.addEventListener("pagehide", () => link?.close(false));
  showFingerprint().catch((error: unknown) => problem(`about.json: ${String(error)}`));
  if (new URLSearchParams(location.search).get("role") === "observer") {
    document.querySelector<HTMLInputElement>("input[value=observer]")?.click();
  }
  connect(chosenRole(), null);
}

start();
