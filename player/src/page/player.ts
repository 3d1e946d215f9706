/** The element `<inv-player src="clip.inv" controls autoplay>`. */

import type { Stats } from "../container/frame";
import type { Camera } from "../container/head";
import { InvError, need } from "../errors";
import type { Entry } from "../playback/messages";
import { Video } from "../playback/video";
import { Painter, type Painting } from "../render/painter";
import { Remote } from "../render/remote";
import { Clock, SPEEDS } from "./clock";
import { CONTENT, sizeText, timeText } from "./controls";
import { approach, type Eye, eyeOf, fitted, look, move, orbit, pinhole, poseOf, type Vector } from "./eye";
import { listen } from "./gestures";
import { icon } from "./icons";
import { hashOf, type Moment, momentOf } from "./link";
import { depthsOf, distanceOf, middleOf, type Rig, rigOf, start } from "./rig";
import { STYLE } from "./style";
import { drawTimeline } from "./timeline";

const NO_WEBGL =
  "This browser has no WebGL 2, by which scenes are rendered. Update it, or allow hardware acceleration.";
/** Pixels of the largest picture: more take long and show little. */
const MOST_PIXELS = 1920 * 1080;
/** Milliseconds after which something is seen to take long. */
const SOON = 400;
/** Milliseconds that a message stays. */
const READ = 4000;
/** Of a drag over 300 pixels or the height of the picture, in radians. */
const TURN = 2.6;
/** Part of the rig's extent that a second of flight takes, and how much faster Shift makes it. */
const PACE = 0.8;
const HASTE = 3;

/** The camera that is looked through: the index of one, the middle of the rig, or a way of the viewer's own. */
type Through = number | "middle" | "own";

type Keys = Record<string, () => void>;

/** What is known of the frame that is shown. */
interface Shown {
  number: number;
  time: number;
  stats: Stats;
  /** In effect at this frame, if this device has decoded it. */
  cameras?: Camera[];
}

/** A video of a radiance field, and everything to look at it from any side. */
export class InvPlayer extends HTMLElement {
  static readonly observedAttributes = ["src", "controls", "loop", "server"];

  private readonly root = this.attachShadow({ mode: "open" });
  private readonly clock = new Clock();
  private readonly held = new Set<string>();
  private video: Video | null = null;
  private painter: Painting | null = null;
  private rig: Rig | null = null;
  private frame: Shown | null = null;
  /** Whether this device was found to be too slow, and what the user wants instead of what follows from that. */
  private isWeak = false;
  private choice: "device" | "server" | null = null;
  private preparing = 0;
  /** Position of the frame that is shown, and of the one that is waited for. */
  private position = -1;
  private wanted = -1;
  private askedAt = 0;
  private following = false;
  private through: Through = "own";
  private eye: Eye | null = null;
  private flying = false;
  private shows: "colour" | "depth" = "colour";
  private opening = 0;
  /** The request for the next tick; null while the element is in no document. */
  private ticking: number | null = null;
  private noted: ReturnType<typeof setTimeout> | undefined;
  private lastTick = 0;

  constructor() {
    super();
    this.root.innerHTML = `<style>${STYLE}</style>${CONTENT}`;
    for (const event of ["webglcontextlost", "webglcontextrestored"]) {
      this.get("picture").addEventListener(event, (happened) => {
        // Or it would not be restored.
        happened.preventDefault();
        if (!this.isRemote) this.prepare();
      });
    }
    this.listenToControls();
    listen(this.get("picture"), {
      turn: (dx, dy) => this.turn(dx, dy),
      shift: (dx, dy) => this.shift(dx, dy),
      approach: (factor) => this.approach(factor),
      tap: () => this.toggle("menu", false),
      reset: () => this.lookThrough(this.begin),
    });
    this.addEventListener("keydown", (event) => this.press(event));
    this.addEventListener("keyup", (event) => this.held.delete(event.key.toLowerCase()));
    this.addEventListener("focusout", () => this.held.clear());
    new ResizeObserver(() => this.resize()).observe(this.get("stage"));
  }

  // ---- As of a video element ----

  get src(): string {
    return this.getAttribute("src") ?? "";
  }

  set src(address: string) {
    this.setAttribute("src", address);
  }

  get paused(): boolean {
    return !this.clock.playing;
  }

  /** In seconds. */
  get currentTime(): number {
    return this.clock.time;
  }

  set currentTime(time: number) {
    this.seek(time);
  }

  get duration(): number {
    return this.video?.duration ?? Number.NaN;
  }

  get playbackRate(): number {
    return this.clock.speed;
  }

  set playbackRate(speed: number) {
    this.clock.speed = Math.max(speed, 0);
    const select = this.get<HTMLSelectElement>("speed");
    select.value = String(speed);
  }

  play(): void {
    if (!this.video?.entries.length) return;
    if (this.clock.time >= this.video.duration && !this.following) this.clock.time = this.video.entries[0]!.time;
    this.clock.playing = true;
    this.say("Playing");
    this.showState();
    this.dispatchEvent(new Event("play"));
  }

  pause(): void {
    this.clock.playing = false;
    this.following = false;
    this.say("Paused");
    this.showState();
    this.dispatchEvent(new Event("pause"));
  }

  /** What is seen: for tests and statistics. */
  get state() {
    return {
      frame: this.frame?.number ?? null,
      frames: this.video?.entries.length ?? 0,
      time: this.clock.time,
      through: this.through,
      pose: this.eye && poseOf(this.eye),
      following: this.following,
      settled: this.painter?.progress.settled === true && this.wanted < 0 && this.frame !== null,
      size: this.painter?.progress.size ?? null,
      rendering: this.painter && (this.painter instanceof Remote ? "server" : "device"),
    };
  }

  // ---- Life ----

  connectedCallback(): void {
    addEventListener("hashchange", this.goToLink);
    document.addEventListener("fullscreenchange", this.showFull);
    this.open(this.src);
    this.ticking = requestAnimationFrame((now) => this.tick(now));
  }

  disconnectedCallback(): void {
    removeEventListener("hashchange", this.goToLink);
    document.removeEventListener("fullscreenchange", this.showFull);
    cancelAnimationFrame(this.ticking!);
    this.ticking = null;
    this.close();
  }

  attributeChangedCallback(name: string): void {
    // The attributes that an element has from the beginning are told before it is connected.
    if (name === "src" && this.ticking !== null) this.open(this.src);
    if (name === "server" && this.ticking !== null) this.prepare();
    if (name === "loop") this.clock.loop = this.hasAttribute("loop");
    this.showState();
    this.resize();
  }

  /** Show a file: an address, or a file of the user's. */
  async open(from: string | Blob): Promise<void> {
    const turn = ++this.opening;
    this.close();
    if (!from) return;
    const follow = typeof from === "string" && new URL(from, document.baseURI).searchParams.has("follow");
    this.note(follow ? "Waiting for the first frame…" : "");
    try {
      const video = await Video.open(from, { follow });
      if (turn !== this.opening) return video.close();
      this.video = video;
      this.following = follow;
      this.rig = rigOf(video.head.cameras);
      this.get("stage").classList.toggle("clear", video.head.background === null);
      this.listCameras();
      this.lookThrough(this.begin);
      for (const event of ["entries", "end", "buffer", "connection", "replaced", "error"]) {
        video.addEventListener(event, () => this.changed(event));
      }
      this.changed("entries");
      if (video.ending) this.changed("end");
      if (video.error) this.changed("error");
      await this.prepare();
    } catch (error) {
      if (turn === this.opening) this.fail(error);
    }
  }

  private context(): WebGL2RenderingContext | null {
    const options = { antialias: false, depth: false, powerPreference: "high-performance" } as const;
    return this.get<HTMLCanvasElement>("picture").getContext("webgl2", options) as WebGL2RenderingContext | null;
  }

  /** Whether the graphics driver has lost everything, as it may, and cannot be used until it is restored. */
  private get isContextLost(): boolean {
    return !this.isRemote && this.context()?.isContextLost() === true;
  }

  /** Whether the server renders. */
  private get isRemote(): boolean {
    return this.hasAttribute("server") && (this.choice ?? (this.isWeak ? "server" : "device")) === "server";
  }

  /** Prepare to paint: at first, where the user wants it, or when the graphics driver lost everything or is back. */
  private async prepare(): Promise<void> {
    const { video } = this;
    if (!video) return;
    const turn = ++this.preparing;
    this.clear();
    if (this.isContextLost) return;
    try {
      const painter = this.isRemote ? this.remote() : await this.renderer(video);
      if (turn !== this.preparing) return painter.close();
      this.painter = painter;
    } catch (error) {
      if (turn !== this.preparing || this.isContextLost) return;
      if (this.choice !== null || !this.hasAttribute("server") || this.isWeak) {
        this.close();
        return this.fail(error);
      }
      this.isWeak = true;
      return this.prepare();
    }
    this.get("sent").hidden = !this.isRemote;
    this.resize();
    const position = this.wanted < 0 ? this.position : this.wanted;
    this.position = this.wanted = -1;
    if (position >= 0) this.want(position);
    this.see();
  }

  private remote(): Remote {
    const address = this.getAttribute("server")!;
    const canvas = this.get<HTMLCanvasElement>("sent");
    return new Remote(
      canvas,
      address,
      () => this.showFacts(),
      (problem) => this.note(problem),
    );
  }

  /** @throws InvError this device cannot render the file. */
  private async renderer(video: Video): Promise<Painter> {
    const gl = this.context();
    need(gl !== null, "unsupported", NO_WEBGL);
    return Painter.create(this.get<HTMLCanvasElement>("picture"), gl, video.head, () => this.showFacts());
  }

  /** Nothing that was painted stays. */
  private clear(): void {
    this.painter?.close();
    this.painter = null;
    Object.assign(this.get("picture"), { width: 1, height: 1 });
    Object.assign(this.get("sent"), { width: 1, height: 1, hidden: true });
  }

  private close(): void {
    this.preparing++;
    this.clear();
    this.video?.close();
    this.video = this.rig = this.frame = this.eye = null;
    this.position = this.wanted = -1;
    Object.assign(this.clock, { time: 0, playing: false });
  }

  // ---- Time ----

  /** Something is new about the file. */
  private changed(event: string): void {
    const { video } = this;
    if (!video) return;
    if (event === "entries" && this.position < 0 && this.wanted < 0) this.enter(video);
    else if (event === "entries" && this.following) this.goLive();
    if (event === "replaced") this.open(this.src);
    if (event === "error") this.fail(video.error);
    if (event === "connection") this.note("");
    if (event === "end") {
      this.following = false;
      if (!video.entries.length) this.note("The file has no frames.");
      else if (video.ending!.status === "damaged" || video.ending!.status === "truncated") {
        const lost = video.ending!.lost;
        this.note(`The file is ${video.ending!.status}${lost ? `; frames lost: ${lost}` : ""}.`, READ);
      }
    }
    this.showState();
  }

  /** Go where the link of the page says, to the newest frame of what is followed, or to the beginning. */
  private enter(video: Video): void {
    if (!video.entries.length) return;
    this.clock.time = video.entries[0]!.time;
    this.goToLink();
    if (this.hasAttribute("autoplay") && momentOf(location.hash).time === null) this.play();
    if (this.following) this.goLive();
    // Not before: the first frame would be read and decoded in vain.
    if (this.wanted < 0) this.want(0);
  }

  private readonly goToLink = (): void => {
    const { time, camera, pose } = momentOf(location.hash);
    if (!this.video || !this.rig) return;
    if (time !== null) this.seek(time);
    const index = this.rig.cameras.findIndex(({ name }) => name === camera);
    if (index >= 0) this.lookThrough(index);
    else if (pose) this.goTo(eyeOf(pose, distanceOf(this.rig, pinhole(this.rig.cameras[0]!, pose))));
  };

  private get moment(): Moment {
    const camera = typeof this.through === "number" ? this.rig!.cameras[this.through]!.name : null;
    return { time: this.frame?.time ?? null, camera, pose: this.eye && poseOf(this.eye) };
  }

  /** Show the frame at a time. */
  seek(time: number): void {
    const { video } = this;
    if (!video?.entries.length) return;
    this.following = false;
    this.clock.time = Math.min(Math.max(time, video.entries[0]!.time), video.duration);
    this.want(video.positionAt(this.clock.time));
    this.showState();
  }

  private step(by: number): void {
    const { video } = this;
    if (!video) return;
    this.pause();
    const from = this.wanted < 0 ? this.position : this.wanted;
    const entry = video.entries[Math.min(Math.max(from + by, 0), video.entries.length - 1)];
    if (entry) this.seek(entry.time);
  }

  private goLive(): void {
    const { video } = this;
    if (!video?.entries.length || video.ending) return;
    this.clock.playing = false;
    this.following = true;
    this.clock.time = video.entries.at(-1)!.time;
    this.want(video.entries.length - 1);
    this.showState();
  }

  /** Have a frame decoded and shown. */
  private want(position: number): void {
    const { video } = this;
    if (!video || position === (this.wanted < 0 ? this.position : this.wanted)) return;
    if (this.wanted < 0) this.askedAt = performance.now();
    this.wanted = position;
    this.frameAt(video, position)?.then(
      (frame) => this.take(video, frame, position),
      (error) => {
        if (video !== this.video || (error instanceof DOMException && error.name === "AbortError")) return;
        this.wanted = -1;
        this.position = position;
        this.fail(error);
      },
    );
  }

  /** Have the frame at a position painted from now on; null: there is nothing yet that could. */
  private frameAt(video: Video, position: number): Promise<Shown> | null {
    const { painter } = this;
    if (painter instanceof Remote) {
      const { number, time } = video.entries[position] as Entry;
      return painter.frame(number).then((stats) => ({ number, time, stats }));
    }
    if (this.isRemote) return null;
    return video.frame(position).then((frame) => {
      if (this.painter instanceof Painter) this.painter.load(frame);
      return frame;
    });
  }

  private take(video: Video, frame: Shown, position: number): void {
    if (video !== this.video) return;
    this.wanted = -1;
    this.position = position;
    this.frame = frame;
    // What is told for a while stays for as long.
    if (this.noted === undefined) this.note("");
    this.see();
    this.showState();
    this.dispatchEvent(new Event("timeupdate"));
  }

  private tick(now: number): void {
    const passed = Math.min(now - this.lastTick, 100) / 1000;
    this.lastTick = now;
    this.fly(passed);
    const { video, clock } = this;
    if (video?.entries.length) {
      // Playback never runs away from what is decoded: frames are left out, and time waits for those that take long.
      const late = this.wanted >= 0 && now - this.askedAt > SOON / 2;
      const waits = late || !this.painter?.progress.size;
      const was = clock.playing;
      const limits = { start: video.entries[0]!.time, end: video.duration, waits, open: !video.ending };
      clock.advance(now, limits);
      const ended = was && !clock.playing;
      // The last frame is shown in the end, however many before it were left out.
      if (ended || (clock.playing && this.wanted < 0)) this.want(video.positionAt(clock.time));
      if (was) this.showState();
      if (ended) this.dispatchEvent(new Event("ended"));
    }
    const waiting = this.video !== null && !this.video.error && this.painter?.progress.size == null;
    this.get("busy").hidden = !(waiting || (this.wanted >= 0 && now - this.askedAt > SOON));
    this.painter?.tick();
    if (this.painter instanceof Painter && this.painter.isSlow) this.findWeak();
    this.ticking = requestAnimationFrame((next) => this.tick(next));
  }

  /** The server renders from now on, if there is one and the user does not want otherwise. */
  private findWeak(): void {
    // While the connection is lost, the server may have nothing to render.
    if (this.isWeak || this.video?.isLost) return;
    this.isWeak = true;
    if (!this.isRemote) return;
    this.prepare();
    this.note("This device is slow: the server renders now. The menu has the choice.", READ);
  }

  // ---- View ----

  private get begin(): Through {
    return this.rig ? (start(this.rig) ?? "middle") : "own";
  }

  private cameraOf(through: Through): Camera | null {
    if (!this.rig || through === "own") return null;
    return through === "middle" ? middleOf(this.rig) : (this.frame?.cameras ?? this.rig.cameras)[through]!;
  }

  private lookThrough(through: Through): void {
    const camera = this.cameraOf(through);
    if (!camera || !this.rig) return;
    this.goTo(eyeOf(camera.pose, distanceOf(this.rig, camera)));
    this.through = through;
    this.get<HTMLSelectElement>("camera").value = String(through);
    this.say(through === "middle" ? "Middle of the cameras" : `Camera ${camera.name}`);
    this.see();
  }

  private goTo(eye: Eye): void {
    this.eye = eye;
    this.through = "own";
    this.get<HTMLSelectElement>("camera").value = "own";
    this.see();
  }

  /** Have the present view painted. */
  private see(): void {
    const { rig, eye, through } = this;
    if (!this.painter || !rig || !eye) return;
    const own = typeof through === "number" ? this.cameraOf(through)! : null;
    const seen = own ?? pinhole(middleOf(rig), poseOf(eye));
    this.painter.show({
      camera: (width, height) => fitted(seen, width, height),
      colourOf: typeof through === "number" ? through : null,
      shows: this.shows,
      range: depthsOf(rig),
    });
  }

  private turn(dx: number, dy: number): void {
    if (!this.eye || !this.rig) return;
    const per = TURN / Math.max(300, this.get("picture").clientHeight);
    this.goTo((this.flying ? look : orbit)(this.eye, this.rig.up, dx * per, dy * per));
  }

  private shift(dx: number, dy: number): void {
    if (!this.eye || !this.rig) return;
    const { clientWidth, clientHeight } = this.get("picture");
    const per = this.eye.distance / fitted(middleOf(this.rig), clientWidth, clientHeight).flY;
    this.goTo(move(this.eye, -dx * per, dy * per, 0));
  }

  private approach(factor: number): void {
    if (!this.eye || !this.rig) return;
    if (this.flying) this.goTo(move(this.eye, 0, 0, Math.log(factor) * this.eye.distance));
    else this.goTo(approach(this.eye, factor, 1e-3 * this.rig.spread));
  }

  /** Keys that are held down move the eye. */
  private fly(seconds: number): void {
    if (!this.eye || !this.rig) return;
    const ways: Record<string, Vector> = {
      w: [0, 0, -1],
      s: [0, 0, 1],
      a: [-1, 0, 0],
      d: [1, 0, 0],
      q: [0, -1, 0],
      e: [0, 1, 0],
    }; // prettier-ignore
    const pace = this.rig.spread * seconds * PACE * (this.held.has("shift") ? HASTE : 1);
    for (const key of this.held) {
      const way = ways[key];
      if (way) this.goTo(move(this.eye, way[0] * pace, way[1] * pace, way[2] * pace));
    }
  }

  private nextCamera(by: number): void {
    if (!this.rig) return;
    const count = this.rig.cameras.length;
    const from = typeof this.through === "number" ? this.through : by > 0 ? -1 : count;
    this.lookThrough((from + by + count) % count);
  }

  private resize(): void {
    const bar = this.get("bar");
    bar.hidden = !this.hasAttribute("controls");
    this.style.setProperty("--bar", `${bar.offsetHeight}px`);
    const { clientWidth, clientHeight } = this.get("stage");
    if (!clientWidth || !clientHeight) return;
    const ratio = Math.min(devicePixelRatio || 1, Math.sqrt(MOST_PIXELS / (clientWidth * clientHeight)));
    this.painter?.resize(Math.max(1, Math.floor(clientWidth * ratio)), Math.max(1, Math.floor(clientHeight * ratio)));
    this.showState();
  }

  // ---- Controls ----

  private get<T extends HTMLElement = HTMLElement>(id: string): T {
    return this.root.getElementById(id) as T;
  }

  private readonly actions: Keys = {
    play: () => (this.paused && !this.following ? this.play() : this.pause()),
    back: () => this.step(-1),
    on: () => this.step(1),
    live: () => this.goLive(),
    more: () => this.toggle("menu"),
    full: () => this.toggleFull(),
    fly: () => {
      this.flying = !this.flying;
      this.say(this.flying ? "Flying" : "Orbiting");
    },
    depth: () => {
      this.shows = this.shows === "depth" ? "colour" : "depth";
      this.see();
    },
    server: () => {
      if (!this.hasAttribute("server")) return;
      this.choice = this.isRemote ? "device" : "server";
      this.say(this.isRemote ? "The server renders" : "This device renders");
      if (this.video) this.prepare();
      else this.open(this.src);
    },
    loop: () => this.toggleAttribute("loop"),
    save: () => this.save(),
    link: () => this.copyLink(),
    stats: () => this.toggle("facts"),
    help: () => this.toggle("keys"),
  };

  private listenToControls(): void {
    for (const [id, act] of Object.entries(this.actions)) {
      this.get(id).addEventListener("click", () => {
        act();
        this.showState();
      });
    }
    const slider = this.get<HTMLInputElement>("slider");
    slider.addEventListener("input", () => {
      const entry = this.video?.entries[Number(slider.value)];
      if (entry) this.seek(entry.time);
    });
    const camera = this.get<HTMLSelectElement>("camera");
    camera.addEventListener("change", () => {
      this.lookThrough(camera.value === "middle" ? "middle" : Number(camera.value));
    });
    const speed = this.get<HTMLSelectElement>("speed");
    speed.value = "1";
    speed.addEventListener("change", () => {
      this.playbackRate = Number(speed.value);
    });
  }

  private press(event: KeyboardEvent): void {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const target = event.composedPath()[0] as HTMLElement;
    const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
    if (target.tagName === "SELECT" || (target.tagName === "BUTTON" && (key === " " || key === "Enter"))) return;
    if ("wasdqe".includes(key) || key === "Shift") {
      this.held.add(key.toLowerCase());
      return;
    }
    const { actions } = this;
    const speed = (by: number): void => {
      const index = SPEEDS.indexOf(this.playbackRate) + by;
      this.playbackRate = SPEEDS[Math.min(Math.max(index, 0), SPEEDS.length - 1)]!;
      this.say(`Speed ${this.playbackRate}`);
    };
    const keys: Keys = {
      " ": actions.play!,
      k: actions.play!,
      ArrowLeft: actions.back!,
      ",": actions.back!,
      ArrowRight: actions.on!,
      ".": actions.on!,
      Home: () => this.seek(0),
      End: () => this.step(Infinity),
      l: actions.live!,
      f: actions.full!,
      g: actions.fly!,
      t: actions.depth!,
      n: actions.server!,
      o: actions.loop!,
      p: actions.save!,
      c: actions.link!,
      i: actions.stats!,
      "?": actions.help!,
      v: () => this.nextCamera(event.shiftKey ? -1 : 1),
      r: () => this.lookThrough(this.begin),
      "<": () => speed(-1),
      ">": () => speed(1),
      Escape: () => this.dismiss(),
    }; // prettier-ignore
    const act = /^\d$/.test(key) ? () => this.seek((this.duration * Number(key)) / 10) : keys[key];
    if (!act) return;
    act();
    this.showState();
    event.preventDefault();
  }

  private toggle(id: string, on?: boolean): void {
    const panel = this.get(id);
    panel.hidden = on === undefined ? !panel.hidden : !on;
    if (id === "menu" && !panel.hidden) this.get("keys").hidden = true;
    if (id === "keys" && !panel.hidden) this.get("menu").hidden = true;
    this.showFacts();
    this.showState();
  }

  private dismiss(): void {
    this.toggle("menu", false);
    this.toggle("keys", false);
  }

  private toggleFull(): void {
    if (document.fullscreenElement) document.exitFullscreen();
    else this.requestFullscreen?.().catch(() => this.note("Full screen is not allowed here.", READ));
  }

  private readonly showFull = (): void => {
    this.get("full").innerHTML = icon(document.fullscreenElement === this ? "small" : "full");
  };

  private async save(): Promise<void> {
    const { painter, frame } = this;
    if (!painter || !frame) return;
    if (!painter.progress.settled) {
      this.note("Rendering the picture to save…");
      while (!painter.progress.settled && painter === this.painter) await new Promise((go) => setTimeout(go, 100));
      this.note("");
    }
    const picture = painter === this.painter && (await painter.save());
    if (!picture) return;
    const name =
      this.src
        .split(/[?#]/)[0]!
        .split("/")
        .pop()!
        .replace(/\.inv$/, "") || "picture";
    const link = document.createElement("a");
    link.href = URL.createObjectURL(picture);
    link.download = `${name}-${String(frame.number).padStart(6, "0")}${this.shows === "depth" ? "-depth" : ""}.png`;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
  }

  private async copyLink(): Promise<void> {
    const address = location.href.replace(/#.*/, "") + hashOf(this.moment);
    history.replaceState(null, "", hashOf(this.moment));
    await navigator.clipboard?.writeText(address).then(
      () => this.note("The link is copied.", READ),
      () => this.note("The link is in the address bar.", READ),
    );
  }

  private listCameras(): void {
    const { cameras } = this.rig!;
    const options = cameras.map(({ name, heldOut }, i) => new Option(heldOut ? `${name} (held out)` : name, String(i)));
    const own = new Option("Own view", "own");
    own.disabled = true;
    this.get("camera").replaceChildren(own, new Option("Middle", "middle"), ...options);
  }

  // ---- What is told ----

  private fail(error: unknown): void {
    const refusal = error instanceof InvError;
    if (!refusal && typeof error !== "string") console.error(error);
    const text = refusal
      ? error.message
      : typeof error === "string"
        ? error
        : `This is a fault of the player: ${error}`;
    const titles = {
      usage: "This cannot be opened",
      damaged: "The file is damaged",
      unsupported: "This cannot be played here",
      limit: "This is too large to play here",
      network: "The file cannot be had",
    }; // prettier-ignore
    this.note(text, 0, refusal ? titles[error.kind] : "This cannot be played");
    this.dispatchEvent(new CustomEvent("error", { detail: error }));
  }

  /**
   * Show a message, for a while if `time` is given; an empty one takes the last one away. That the connection is lost
   * stays true whatever else is said meanwhile, so it is what remains.
   */
  private note(message: string, time = 0, title = ""): void {
    const text = message || (this.video?.isLost ? "The connection is lost. Connecting again…" : "");
    const note = this.get("note");
    clearTimeout(this.noted);
    this.noted = undefined;
    note.hidden = !text;
    note.classList.toggle("error", title !== "");
    note.replaceChildren();
    if (title) note.append(Object.assign(document.createElement("b"), { textContent: title }));
    note.append(text);
    if (time) this.noted = setTimeout(() => this.note(""), time);
  }

  /** For those who do not see. */
  private say(text: string): void {
    this.get("said").textContent = text;
  }

  private showState(): void {
    const { video, clock } = this;
    const entries = video?.entries ?? [];
    const press = (id: string, on: boolean): void => this.get(id).setAttribute("aria-pressed", String(on));
    const runs = clock.playing || this.following;
    const play = this.get("play");
    if (play.dataset.runs !== String(runs)) {
      play.dataset.runs = String(runs);
      play.innerHTML = icon(runs ? "pause" : "play");
      play.title = `${runs ? "Pause" : "Play"} (Space)`;
      play.setAttribute("aria-label", runs ? "Pause" : "Play");
    }
    press("fly", this.flying);
    press("depth", this.shows === "depth");
    press("server", this.isRemote);
    this.get("server").hidden = !this.hasAttribute("server");
    press("loop", clock.loop);
    press("stats", !this.get("facts").hidden);
    press("help", !this.get("keys").hidden);
    press("live", this.following);
    this.get("more").setAttribute("aria-expanded", String(!this.get("menu").hidden));
    this.get("live").hidden =
      !video || video.ending !== null || !new URL(this.src || ".", document.baseURI).searchParams.has("follow");
    const slider = this.get<HTMLInputElement>("slider");
    slider.max = String(Math.max(entries.length - 1, 0));
    slider.value = String(Math.max(this.wanted < 0 ? this.position : this.wanted, 0));
    const seen = entries.length ? `${timeText(clock.time)} / ${timeText(video!.duration)}` : "";
    slider.setAttribute("aria-valuetext", seen);
    const [now, all] = seen.split(" / ");
    this.get("clock").innerHTML = seen && `<b>${now}</b> / ${all}`;
    if (video) drawTimeline(this.get<HTMLCanvasElement>("line"), video, clock.time, !this.get("facts").hidden);
  }

  private showFacts(): void {
    const { video, painter } = this;
    const facts = this.get("facts");
    const entry = video?.entries[this.position];
    if (facts.hidden || !video || !entry || !painter || !this.frame) return;
    const { size, took } = painter.progress;
    const { psnr, psnrMoving, captured } = this.frame.stats;
    const bytes = video.entries.reduce((sum, each) => sum + each.size, 0);
    const begin = video.entries[0]!.time;
    const { requests } = video.traffic;
    const rows: [string, string | null][] = [
      ["Frame", String(entry.number)],
      ["Record", `${sizeText(entry.size)}${entry.isKey ? ", key" : ""}`],
      ["PSNR", psnr === null ? null : `${psnr.toFixed(2)} dB`],
      ["Moving", psnrMoving === null ? null : `${psnrMoving.toFixed(2)} dB`],
      ["Bit rate", `${((8e-3 * bytes) / (video.duration - begin)).toPrecision(3)} kbit/s`],
      ["Latency", this.following && captured ? `${((Date.now() - captured) / 1000).toFixed(1)} s` : null],
      ["Fetched", `${sizeText(video.traffic.bytes)}, ${requests} ${requests === 1 ? "request" : "requests"}`],
      ["Picture", size && `${size.join(" × ")}, ${Math.round(took)} ms${this.isRemote ? ", by the server" : ""}`],
    ];
    facts.replaceChildren(
      ...rows.flatMap(([name, value]) => {
        if (!value) return [];
        const make = (tag: string, textContent: string) => Object.assign(document.createElement(tag), { textContent });
        return [make("dt", name), make("dd", value)];
      }),
    );
  }
}
