export type { Status } from "./container/catalogue";
export type { Stats } from "./container/frame";
export type { Camera, Head, Network, Tensor } from "./container/head";
export { type ErrorClass, InvError } from "./errors";
export type { Frame, NetworkState } from "./field/frame";
export type { Roles } from "./field/roles";
export type { Space } from "./field/space";
export type { Entry } from "./playback/messages";
export { type Ending, Video } from "./playback/video";
