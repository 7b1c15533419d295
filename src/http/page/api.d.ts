// What the page knows of the API's answers (docs/http.md), for the type checker alone: nothing of this file is sent. Any field
// may be missing: the daemon may be of another version than the page in an old tab.

type Maybe<T> = T | null | undefined;

interface Status {
  name?: string;
  version?: string;
  libcamera?: Maybe<string>;
  health?: { state?: string; reason?: Maybe<string> };
  camera?: Maybe<Camera>;
  encoder?: Maybe<Encoder>;
  settings?: Settings;
  rates?: { captured_fps?: number };
  frame?: Maybe<{ width?: number; height?: number; placeholder?: boolean }>;
  viewers?: { count?: number; max?: number };
  config?: { problems?: string[] };
}

interface Camera {
  source?: string;
  id?: string;
  model?: string;
  pixel_format?: string;
  width?: number;
  height?: number;
  frame_rate?: Maybe<number>;
  running?: boolean;
  turned_by?: Maybe<string>;
  notes?: string[];
}

interface Encoder {
  kind?: string;
  reason?: string;
  device?: Maybe<string>;
  memory?: Maybe<string>;
  rate_limit?: Maybe<number>;
}

interface Settings {
  resolution?: string;
  frame_rate?: number;
  quality?: number;
  orientation?: string;
  to_keep?: string;
}

/** What a control, or a setting, may be set to: text, number, truth, or a list of them. */
// biome-ignore lint/suspicious/noExplicitAny: a control's type is known when the page runs
type Value = any;

interface Control {
  name: string;
  /** The name a person sees, where it is another. */
  label?: string;
  /** What it is, in a sentence or two. */
  hint?: string;
  type: string;
  min?: Value;
  max?: Value;
  default?: Value;
  value?: Value;
  step?: number;
  read_only?: boolean;
  options?: { value: string | number; name: string }[];
  /** Other values than the options may be typed. */
  other?: boolean;
}

interface Controls {
  controls?: Control[];
  /** Of a refusal: the control it is about. */
  control?: string;
}

/** An answer, or what went wrong instead of it. */
type Answer<T> = T & { error?: string };

interface Throttling {
  now?: string[];
  recent?: string[];
  sees_under_voltage?: Maybe<boolean>;
}

interface Clock {
  mhz?: Maybe<number>;
  max_mhz?: Maybe<number>;
  governor?: Maybe<string>;
}

interface Sensor {
  name: string;
  supported?: boolean;
  driver?: boolean;
}

interface Machine {
  model?: Maybe<string>;
  unique_name?: Maybe<string>;
  kernel?: Maybe<string>;
  uptime_s?: Maybe<number>;
  load?: Maybe<number[]>;
  memory?: Maybe<{ total_bytes?: number; free_bytes?: number }>;
  clock?: Maybe<Clock>;
  temperature_c?: Maybe<number>;
  throttling?: Maybe<Throttling>;
  sensors?: Sensor[];
}

interface LogLine {
  monotonic_s: number;
  level?: string;
  text: string;
}

interface Diagnostics {
  monotonic_s?: number;
  machine?: Maybe<Machine>;
  program?: { resident_bytes?: Maybe<number>; uptime_s?: number };
  restarts?: Maybe<{
    boots?: Maybe<number>;
    why_booted?: Maybe<string>;
    failures?: { cause: string; count: number; ago_s?: Maybe<number> }[];
    last?: Maybe<{ of: string; why: string; ago_s?: Maybe<number> }>;
  }>;
  log?: LogLine[];
  machine_log?: Maybe<LogLine[]>;
}

// ---- the page's own words ----------------------------------------------------------------------

/** A name and its value; one without a value is not shown. */
type Fact = [string, Maybe<string | number | false>];

/** What shows a value in a control's editor: its elements, and the way to set them. */
type Editor = [HTMLElement[], (value: Value) => void];

/** Sets a value; with a mistake nothing is set, and the mistake is shown. */
type Put = (value: Value, mistake?: string) => void;

/** Changes that wait to be sent together. */
interface Changes {
  has(name: string): boolean;
  put(name: string, value: Value): void;
}

/** One line of a panel. */
interface Line {
  element: HTMLElement;
  fail(words: string): void;
  show(value: Value, answered: boolean): void;
}

/** The elements that are more than an HTMLElement, by id. */
interface ById {
  live: HTMLCanvasElement;
  plain: HTMLImageElement;
  snapshot: HTMLAnchorElement;
  settings: HTMLDetailsElement;
  controls: HTMLDetailsElement;
  diagnostics: HTMLDetailsElement;
  'stream-url': HTMLInputElement;
  'snapshot-url': HTMLInputElement;
}

/** Safari before 16.4 has full screen under this name only. */
interface Document {
  webkitFullscreenElement?: Element;
  webkitExitFullscreen?: () => Promise<void>;
}
interface HTMLElement {
  webkitRequestFullscreen?: () => Promise<void>;
}
