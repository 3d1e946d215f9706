export type { Camera, Head, Network, Tensor } from "./container/head";
export { type ErrorClass, InvError } from "./errors";
export type { Frame, NetworkState } from "./field/frame";
