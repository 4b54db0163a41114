// The headset session: one pose frame up for each XR frame, and what the operator sees.
import { FRAME_SIZE, encode, type Pose } from "./frame";
import type { Link } from "./link";
import { clock, type State } from "./messages";
import { HeadsetScene } from "./scene";

const WANTED_RATE_HZ = 90;

export class HeadsetSession {
  private session: XRSession | null = null;
  private readonly data = new ArrayBuffer(FRAME_SIZE);
  private readonly view = new DataView(this.data);
  private seq = 0;
  private announced: XRInputSource | null = null;

  constructor(
    private readonly scene: HeadsetScene,
    private readonly link: () => Link | null,
    private readonly state: () => State,
  ) {}

  static async mode(): Promise<XRSessionMode | null> {
    for (const mode of ["immersive-ar", "immersive-vr"] as const) {
      if (await navigator.xr?.isSessionSupported(mode)) return mode;
    }
    return null;
  }

  // The right controller. A tracked hand that takes its place when it is laid down is none: it has no grip to let go.
  get hand(): XRInputSource | null {
    return [...(this.session?.inputSources ?? [])].find(isRightController) ?? null;
  }

  // Numbers start from 0 in each connection.
  restart(): void {
    this.seq = 0;
    this.announced = null;
    if (this.session) this.tellVisibility();
  }

  async start(mode: XRSessionMode): Promise<void> {
    const session = await navigator.xr?.requestSession(mode, { requiredFeatures: ["local-floor"] });
    if (!session) return;
    this.session = session;
    this.announced = null;
    session.addEventListener("visibilitychange", () => this.tellVisibility());
    session.addEventListener("end", () => this.finish());
    await this.scene.renderer.xr.setSession(session);
    this.scene.replace();
    const space = this.scene.renderer.xr.getReferenceSpace();
    space?.addEventListener("reset", () => {
      this.link()?.send({ type: "reset" });
      this.scene.replace();
    });
    const rates = [...(session.supportedFrameRates ?? [])].filter((rate) => rate <= WANTED_RATE_HZ);
    if (rates.length > 0) await session.updateTargetFrameRate?.(Math.max(...rates));
    this.tellVisibility();
    this.scene.renderer.setAnimationLoop((time, frame) => {
      if (frame && space) this.onFrame(time, frame, space);
    });
  }

  end(): void {
    void this.session?.end();
  }

  private finish(): void {
    this.scene.renderer.setAnimationLoop(null);
    this.session = null;
    this.link()?.send({ type: "session", state: "ended" });
  }

  private tellVisibility(): void {
    this.link()?.send({ type: "visibility", state: this.session?.visibilityState ?? "hidden" });
  }

  private onFrame(time: DOMHighResTimeStamp, frame: XRFrame, space: XRReferenceSpace): void {
    const link = this.link();
    const head = frame.getViewerPose(space);
    if (link?.connected) {
      this.announce(link, frame);
      this.sendPose(link, time, frame, space, head);
    }
    this.scene.render(this.state(), link?.connected ?? false, head);
  }

  private sendPose(
    link: Link,
    time: DOMHighResTimeStamp,
    frame: XRFrame,
    space: XRReferenceSpace,
    head: XRViewerPose | undefined,
  ): void {
    const hand = this.hand;
    const pose = hand?.gripSpace ? frame.getPose(hand.gripSpace, space) : undefined;
    encode(
      {
        seq: this.seq++,
        frameTime: clock(frame.predictedDisplayTime ?? time),
        sendTime: clock(),
        visible: frame.session.visibilityState === "visible",
        grip: pose ? { ...rigid(pose.transform), emulated: pose.emulatedPosition } : null,
        head: head ? rigid(head.transform) : null,
        buttons: hand?.gamepad?.buttons ?? [],
        axes: hand?.gamepad?.axes ?? [],
      },
      this.view,
    );
    link.sendFrame(this.data);
  }

  // Once per connection and controller: the pointing ray is rigid to the grip, so its rotation needs to be sent once.
  private announce(link: Link, frame: XRFrame): void {
    const hand = this.hand;
    if (!hand?.gripSpace || hand === this.announced) return;
    const ray = frame.getPose(hand.targetRaySpace, hand.gripSpace);
    if (!ray) return;
    const { x, y, z, w } = ray.transform.orientation;
    this.announced = hand;
    link.send({
      type: "session",
      state: "started",
      profile: hand.profiles[0] ?? "unknown",
      frame_rate: frame.session.frameRate ?? 0,
      ray_in_grip: [x, y, z, w],
    });
  }
}

function isRightController(source: XRInputSource): boolean {
  const tracked = source.handedness === "right" && source.gripSpace && source.gamepad;
  return Boolean(tracked) && !source.hand && !source.profiles.some((profile) => profile.includes("hand"));
}

function rigid(transform: XRRigidTransform): Pose {
  return { position: transform.position, orientation: transform.orientation };
}
