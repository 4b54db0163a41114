// What the operator sees in the headset besides the real room: the panel, camera panes, the robot's forward direction.
import {
  ArrowHelper,
  CanvasTexture,
  Group,
  Mesh,
  MeshBasicMaterial,
  PerspectiveCamera,
  PlaneGeometry,
  Scene,
  SRGBColorSpace,
  Vector3,
  WebGLRenderer,
} from "three";
import type { Feeds } from "./feeds";
import { lines } from "./lines";
import type { State } from "./messages";
import { PANEL_HEIGHT, PANEL_WIDTH, drawPanel } from "./panel";

const PANEL_M = 0.55; // width
const PANE_M = 0.36;
const DISTANCE_M = 0.9;
const BELOW_EYES_M = 0.12;
const REDRAW_MS = 150; // numbers change at every state; uploading a texture costs frames

export class HeadsetScene {
  readonly renderer: WebGLRenderer;
  readonly scene = new Scene();
  readonly camera = new PerspectiveCamera();
  private readonly front = new Group(); // stands before the operator
  private readonly panel = document.createElement("canvas");
  private readonly texture: CanvasTexture;
  private readonly board: Mesh;
  private readonly panes = new Map<string, CanvasTexture>();
  private readonly arrow = new ArrowHelper(new Vector3(0, 0, -1), new Vector3(), 0.5, 0x7fe0a0, 0.1, 0.06);
  private shown = "";
  private drawn = -Infinity;
  private placed = false;

  constructor(private readonly feeds: Feeds) {
    this.renderer = new WebGLRenderer({ antialias: false, alpha: true }); // text is a texture: nothing to smooth
    this.renderer.xr.enabled = true;
    this.renderer.xr.setReferenceSpaceType("local-floor");
    this.renderer.setClearAlpha(0);
    this.panel.width = PANEL_WIDTH;
    this.panel.height = PANEL_HEIGHT;
    this.texture = new CanvasTexture(this.panel);
    this.texture.colorSpace = SRGBColorSpace;
    this.board = plane(PANEL_M, (PANEL_M * PANEL_HEIGHT) / PANEL_WIDTH, this.texture);
    this.arrow.visible = false;
    this.front.add(this.board);
    this.scene.add(this.front, this.arrow);
    feeds.onImage = (name) => this.showPane(name);
  }

  // Forget where the operator stood, so that the next frame puts the panel before them again.
  replace(): void {
    this.placed = false;
  }

  render(state: State, connected: boolean, head: XRViewerPose | undefined): void {
    if (head && !this.placed) this.place(head.transform);
    if (performance.now() - this.drawn > REDRAW_MS) this.draw(state, connected);
    // The robot's +x in WebXR's axes, for the yaw psi of the alignment.
    this.arrow.visible = state.yaw_rad !== undefined;
    if (state.yaw_rad !== undefined) {
      this.arrow.setDirection(new Vector3(Math.sin(state.yaw_rad), 0, -Math.cos(state.yaw_rad)));
    }
    this.renderer.render(this.scene, this.camera);
  }

  private draw(state: State, connected: boolean): void {
    const content = lines(state, connected);
    const key = JSON.stringify(content);
    if (key === this.shown) return;
    this.shown = key;
    this.drawn = performance.now();
    drawPanel(this.panel, content);
    this.texture.needsUpdate = true;
  }

  hidePanes(): void {
    for (const name of this.panes.keys()) this.front.getObjectByName(paneName(name))?.removeFromParent();
    this.panes.clear();
  }

  // Before the operator, turned about the vertical only, world-fixed from then on.
  private place(head: XRRigidTransform): void {
    const { x, y, z, w } = head.orientation;
    const yaw = Math.atan2(2 * (w * y + x * z), 1 - 2 * (y * y + x * x));
    this.front.position.set(head.position.x, 0, head.position.z);
    this.front.rotation.y = yaw;
    this.board.position.set(0, head.position.y - BELOW_EYES_M, -DISTANCE_M);
    this.arrow.position.set(head.position.x - Math.sin(yaw), 0.02, head.position.z - Math.cos(yaw));
    this.placed = true;
  }

  private showPane(name: string): void {
    const texture = this.panes.get(name) ?? this.addPane(name);
    if (texture) texture.needsUpdate = true;
  }

  private addPane(name: string): CanvasTexture | null {
    const canvas = this.feeds.canvases.get(name);
    if (!canvas) return null;
    const texture = new CanvasTexture(canvas);
    texture.colorSpace = SRGBColorSpace;
    const pane = plane(PANE_M, (PANE_M * canvas.height) / canvas.width, texture);
    pane.name = paneName(name);
    pane.position.set((this.panes.size - 1) * (PANE_M + 0.02), this.board.position.y + 0.32, -DISTANCE_M - 0.05);
    this.panes.set(name, texture);
    this.front.add(pane);
    return texture;
  }
}

function plane(width: number, height: number, texture: CanvasTexture): Mesh {
  const material = new MeshBasicMaterial({ map: texture, transparent: true, toneMapped: false });
  return new Mesh(new PlaneGeometry(width, height), material);
}

function paneName(name: string): string {
  return `camera ${name}`;
}
