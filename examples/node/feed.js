// The streaming feed of Aruba Central for a test: a capture that `centralcap replay` serves.

import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFile } from 'node:fs/promises';
import { createInterface } from 'node:readline';

// By the environment variable CENTRALCAP, or on the PATH.
export const CENTRALCAP = process.env.CENTRALCAP ?? 'centralcap';

// Serves the capture with these options of `centralcap replay` until the test `t` has ended. It fails with
// what the replay has said if that did not end well. Returns where the feed is, and which authority to trust.
export async function replay(t, capture, ...options) {
  const child = spawn(CENTRALCAP, ['replay', ...options, '--', capture], { stdio: ['ignore', 'pipe', 'pipe'] });
  let words = '';
  child.stderr.setEncoding('utf8').on('data', (text) => (words += text));
  const ended = once(child, 'close').catch((error) => {
    if (error.code !== 'ENOENT') throw error;
    throw new Error(`found no command ${CENTRALCAP}: put centralcap on the PATH, or its path into CENTRALCAP`);
  });
  t.after(async () => {
    child.kill('SIGTERM');
    const [code] = await ended;
    if (code !== 0) throw new Error(`centralcap replay ended with exit code ${code}: ${words}`);
  });

  // The first line, or the end if it could not start.
  const first = once(createInterface(child.stdout), 'line');
  const line = await Promise.race([first, ended.then(() => undefined)]);
  if (!line) throw new Error(`centralcap replay did not start: ${words}`);
  const ready = JSON.parse(line[0]);
  return { ...ready, ca: ready.ca && (await readFile(ready.ca)) };
}
