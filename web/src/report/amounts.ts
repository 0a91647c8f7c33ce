// Bytes in words.

const UNITS = ["KiB", "MiB", "GiB", "TiB", "PiB"];

/** A size in binary units; the same text as the library's. */
export function formatBytes(bytes: number): string {
  const sign = bytes < 0 ? "-" : "";
  let value = Math.abs(bytes);
  if (value < 1024) return `${sign}${value} B`;
  value /= 1024;
  let unit = 0;
  // 1023.95 would round up to "1024.0"; the next unit reads better.
  while (value >= 1023.95 && unit + 1 < UNITS.length) {
    value /= 1024;
    unit += 1;
  }
  return `${sign}${value.toFixed(1)} ${UNITS[unit]}`;
}

/** A size that may be unknown. */
export function size(bytes: number | null): string {
  return bytes === null ? "unknown" : formatBytes(bytes);
}

/** A signed change; positive means given back. */
export function change(bytes: number | null): string {
  if (bytes === null) return "not measured";
  if (bytes === 0) return "unchanged";
  return bytes > 0 ? `${formatBytes(bytes)} freed` : `${formatBytes(-bytes)} more`;
}
