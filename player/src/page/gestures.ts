/** Hands on the picture: mouse, pen, fingers, wheel. */

export interface Hands {
  /** Drag with one finger or the main button, in pixels. */
  turn(dx: number, dy: number): void;
  /** Drag with two fingers or another button, in pixels. */
  shift(dx: number, dy: number): void;
  /** Wheel or pinch: the factor of the distance. */
  approach(factor: number): void;
  /** Touched without a move. */
  tap(): void;
  reset(): void;
}

/** Movements of fewer pixels are no drag. */
const STILL = 4;

/** Fingers that are closer than this, in pixels, tell no distance. */
const PINCH = 8;

export function listen(picture: HTMLElement, hands: Hands): void {
  const fingers = new Map<number, [number, number]>();
  let moved = 0;
  picture.addEventListener("pointerdown", (event) => {
    picture.setPointerCapture(event.pointerId);
    if (!fingers.size) moved = 0;
    fingers.set(event.pointerId, [event.clientX, event.clientY]);
  });
  picture.addEventListener("pointermove", (event) => {
    const before = fingers.get(event.pointerId);
    if (!before) return;
    const [dx, dy] = [event.clientX - before[0], event.clientY - before[1]];
    moved += Math.hypot(dx, dy);
    if (fingers.size === 2) {
      const other = [...fingers].find(([id]) => id !== event.pointerId)![1];
      const apart = ([x, y]: readonly [number, number]) => Math.hypot(x - other[0], y - other[1]);
      const [was, is] = [apart(before), apart([event.clientX, event.clientY])];
      if (was > PINCH && is > PINCH) hands.approach(was / is);
      hands.shift(dx / 2, dy / 2);
    } else if (fingers.size === 1 && (event.buttons & 6 || event.shiftKey)) hands.shift(dx, dy);
    else if (fingers.size === 1 && moved >= STILL) hands.turn(dx, dy);
    fingers.set(event.pointerId, [event.clientX, event.clientY]);
  });
  for (const end of ["pointerup", "pointercancel"] as const) {
    picture.addEventListener(end, (event) => {
      if (end === "pointerup" && fingers.size === 1 && moved < STILL && event.button === 0) hands.tap();
      fingers.delete(event.pointerId);
    });
  }
  picture.addEventListener("contextmenu", (event) => event.preventDefault());
  picture.addEventListener("dblclick", () => hands.reset());
  picture.addEventListener(
    "wheel",
    (event) => {
      event.preventDefault();
      hands.approach(Math.exp(event.deltaY * (event.deltaMode ? 0.05 : 0.0015)));
    },
    { passive: false },
  );
}
