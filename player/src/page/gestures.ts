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

type Place = [number, number];

export function listen(picture: HTMLElement, hands: Hands): void {
  const pointers = new Map<number, Place>();
  let moved = 0;
  picture.addEventListener("pointerdown", (event) => {
    picture.setPointerCapture(event.pointerId);
    if (!pointers.size) moved = 0;
    pointers.set(event.pointerId, [event.clientX, event.clientY]);
  });
  picture.addEventListener("pointermove", (event) => {
    const before = pointers.get(event.pointerId);
    if (!before) return;
    const [dx, dy] = [event.clientX - before[0], event.clientY - before[1]];
    moved += Math.hypot(dx, dy);
    if (pointers.size === 1 && (event.buttons & 6 || event.shiftKey)) hands.shift(dx, dy);
    else if (pointers.size === 1 && moved >= STILL) hands.turn(dx, dy);
    pointers.set(event.pointerId, [event.clientX, event.clientY]);
  });
  for (const end of ["pointerup", "pointercancel"] as const) {
    picture.addEventListener(end, (event) => {
      if (end === "pointerup" && pointers.size === 1 && moved < STILL && event.button === 0) hands.tap();
      pointers.delete(event.pointerId);
    });
  }
  // Pointers tell of one finger after the other, which would be seen as movements back and forth.
  let fingers: Place[] = [];
  for (const change of ["touchstart", "touchmove", "touchend", "touchcancel"] as const) {
    picture.addEventListener(change, ({ type, targetTouches }) => {
      const before = fingers;
      fingers = [...targetTouches].map(({ clientX, clientY }) => [clientX, clientY]);
      if (type === "touchmove" && before.length === 2) move(before as [Place, Place], fingers as [Place, Place], hands);
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

/** Two fingers have gone from one pair of places to another. */
function move(before: [Place, Place], after: [Place, Place], hands: Hands): void {
  const middle = ([a, b]: [Place, Place]): Place => [(a[0] + b[0]) / 2, (a[1] + b[1]) / 2];
  const apart = ([a, b]: [Place, Place]): number => Math.hypot(a[0] - b[0], a[1] - b[1]);
  const [from, to] = [middle(before), middle(after)];
  hands.shift(to[0] - from[0], to[1] - from[1]);
  const [was, is] = [apart(before), apart(after)];
  if (was > PINCH && is > PINCH) hands.approach(was / is);
}
