// Camera images: one canvas per camera, used by the flat page and as texture in the headset.

export class Feeds {
  readonly canvases = new Map<string, HTMLCanvasElement>();
  private names: string[] = [];
  private readonly busy = new Set<number>();
  onImage: (name: string) => void = () => undefined;

  setNames(names: string[]): void {
    this.names = names;
  }

  // Draw an image; one that comes while its predecessor is being decoded is dropped.
  async show(camera: number, jpeg: Blob): Promise<void> {
    const name = this.names[camera];
    if (name === undefined || this.busy.has(camera)) return;
    this.busy.add(camera);
    try {
      const bitmap = await createImageBitmap(jpeg);
      const canvas = this.canvas(name);
      if (canvas.width !== bitmap.width || canvas.height !== bitmap.height) {
        canvas.width = bitmap.width;
        canvas.height = bitmap.height;
      }
      canvas.getContext("2d")?.drawImage(bitmap, 0, 0);
      bitmap.close();
      this.onImage(name);
    } finally {
      this.busy.delete(camera);
    }
  }

  private canvas(name: string): HTMLCanvasElement {
    let canvas = this.canvases.get(name);
    if (!canvas) {
      canvas = document.createElement("canvas");
      this.canvases.set(name, canvas);
    }
    return canvas;
  }
}
