// A node's output as ComfyUI keeps it -> the same with its report unpacked. Knows no ComfyUI.

/** The output with each report as JSON text; what cannot be unpacked is left out. */
export async function unpacked(output: unknown): Promise<unknown> {
  if (typeof output !== "object" || output === null || !("memsweep" in output)) return output;
  const { memsweep } = output;
  if (!Array.isArray(memsweep)) return output;
  const messages = memsweep.map(async (message: unknown) => {
    if (typeof message !== "object" || message === null || !("report" in message)) return message;
    return { ...message, report: await inflated(message.report) };
  });
  return { ...output, memsweep: await Promise.all(messages) };
}

/** The text inside base64 and zlib; null where there is none, or where the browser cannot unpack it. */
async function inflated(packed: unknown): Promise<string | null> {
  if (typeof packed !== "string") return null;
  try {
    const bytes = Uint8Array.from(atob(packed), (letter) => letter.charCodeAt(0));
    const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
    return await new Response(stream).text();
  } catch {
    return null;
  }
}
