// A canvas that shows the newest view as a server renders it: for devices that are too slow, or have no WebGL 2.

import type { Stats } from "../container/frame";
import { InvError } from "../errors";
import type { Painting, Progress, Scenery } from "./painter";

/** Milliseconds before each attempt to connect again; the last one repeats. */
const RETRIES = [300, 600, 1200, 2500, 5000];
/** Milliseconds after which an answer is not waited for any more before the next view is asked for. */
const PATIENCE = 2000;

/** What comes with a picture; with an error, nothing else may be known. */
interface About {
  serial: number;
  frame: number;
  size: [number, number];
  final: boolean;
  type: string;
  /** In seconds. */
  took: number;
  psnr: number | null;
  psnr_moving: number | null;
  captured: number | null;
  error?: string;
}

interface Waiting {
  number: number;
  resolve(stats: Stats): void;
  reject(error: unknown): void;
}

/** Shows on a canvas what `invcodec view` renders. One request is in flight at a time; the next is for the newest view. */
export class Remote implements Painting {
  private socket: WebSocket | null = null;
  private attempt = 0;
  private retry: ReturnType<typeof setTimeout> | undefined;
  private scenery: Scenery | null = null;
  private number: number | null = null;
  private waiting: Waiting | null = null;
  private stale = false;
  private serial = 0;
  private sentAt: number | null = null;
  private shown: About | null = null;
  /** The last picture in full, and exact. */
  private final: Blob | null = null;

  /**
   * @param address of the server's socket
   * @param painted called when there is something new to see
   * @param told called with what goes wrong, and with "" once it goes on
   */
  constructor(
    private readonly canvas: HTMLCanvasElement,
    private readonly address: string,
    private readonly painted: () => void,
    private readonly told: (problem: string) => void,
  ) {
    this.connect();
  }

  get progress(): Progress {
    const { shown } = this;
    const settled = !!shown?.final && !this.stale && shown.serial === this.serial;
    return { size: shown?.size ?? null, settled, took: 1000 * (shown?.took ?? 0) };
  }

  /**
   * Show the frame that has this number from now on; what the file tells of it, once it is seen. A call supersedes the one
   * before, which is rejected with an `AbortError`.
   *
   * @throws InvError the server does not have it
   */
  frame(number: number): Promise<Stats> {
    this.waiting?.reject(new DOMException("another frame was asked for", "AbortError"));
    this.number = number;
    this.stale = true;
    return new Promise((resolve, reject) => {
      this.waiting = { number, resolve, reject };
    });
  }

  show(scenery: Scenery): void {
    this.scenery = scenery;
    this.stale = true;
  }

  resize(width: number, height: number): void {
    if (this.canvas.width === width && this.canvas.height === height) return;
    Object.assign(this.canvas, { width, height });
    this.stale = true;
  }

  async save(): Promise<Blob | null> {
    return this.final;
  }

  tick(): void {
    const { scenery, number, socket } = this;
    if (!this.stale || !scenery || number === null || socket?.readyState !== WebSocket.OPEN) return;
    if (this.sentAt !== null && performance.now() - this.sentAt < PATIENCE) return;
    this.stale = false;
    this.sentAt = performance.now();
    this.serial++;
    const { width, height } = this.canvas;
    const camera = scenery.camera(width, height);
    const rows = [0, 4, 8].map((at) => camera.pose.slice(at, at + 4));
    const through = scenery.colourOf === null ? { camera: "", pose: rows } : { camera: camera.name };
    const focal = camera.flY / height;
    const depth = scenery.shows === "depth";
    socket.send(
      JSON.stringify({ frame: number, size: [width, height], serial: this.serial, focal, depth, ...through }),
    );
  }

  close(): void {
    clearTimeout(this.retry);
    this.waiting?.reject(new DOMException("the pictures are rendered elsewhere now", "AbortError"));
    const { socket } = this;
    this.socket = null;
    socket?.close();
  }

  private connect(): void {
    const address = new URL(this.address, document.baseURI);
    address.protocol = address.protocol.replace("http", "ws");
    const socket = new WebSocket(address);
    this.socket = socket;
    socket.binaryType = "arraybuffer";
    socket.onopen = () => {
      this.attempt = 0;
      this.stale = true;
      this.sentAt = null;
      this.told("");
    };
    socket.onmessage = ({ data }: MessageEvent<string | ArrayBuffer>) => {
      if (typeof data === "string") this.told((JSON.parse(data) as { error: string }).error);
      else this.take(data);
    };
    socket.onclose = () => {
      if (socket !== this.socket) return;
      this.told("The server that renders is gone. Connecting again…");
      this.retry = setTimeout(() => this.connect(), RETRIES[Math.min(this.attempt++, RETRIES.length - 1)]);
    };
  }

  private async take(data: ArrayBuffer): Promise<void> {
    const length = new DataView(data).getUint32(0, true);
    const about = JSON.parse(new TextDecoder().decode(new Uint8Array(data, 4, length))) as About;
    const isNewest = (): boolean => about.serial === this.serial && this.socket !== null;
    if (!isNewest()) return;
    this.sentAt = null;
    if (about.error) {
      if (this.waiting) this.waiting.reject(new InvError("network", about.error));
      else this.told(about.error);
      this.waiting = null;
      return;
    }
    const blob = new Blob([new Uint8Array(data, 4 + length)], { type: about.type });
    const image = await createImageBitmap(blob);
    if (!isNewest()) return;
    const { width, height } = this.canvas;
    const pen = this.canvas.getContext("2d")!;
    pen.imageSmoothingQuality = "high";
    pen.clearRect(0, 0, width, height);
    pen.drawImage(image, 0, 0, width, height);
    image.close();
    this.shown = about;
    this.final = about.final ? blob : null;
    if (this.waiting?.number === about.frame) {
      this.waiting.resolve({ psnr: about.psnr, psnrMoving: about.psnr_moving, captured: about.captured });
      this.waiting = null;
    }
    this.painted();
  }
}
