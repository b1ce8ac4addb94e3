// A client made with ws, tested without the vendor.

import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { once } from 'node:events';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import protobuf from 'protobufjs';
import { WebSocket } from 'ws';

import { CENTRALCAP, replay } from './feed.js';

const repository = new URL('../../', import.meta.url);
const path = (name) => fileURLToPath(new URL(name, repository));
const CAMPUS = path('fixtures/campus.mcap');

// Of no account: the feed takes any key unless it is given accounts.
const subscribe = (feed, topic, options = { ca: feed.ca }) =>
  new WebSocket(feed.url, { headers: { Authorization: 'synthetic-key', Topic: topic }, ...options });

// All messages up to the close, and its code.
async function receive(client) {
  const messages = [];
  client.on('message', (data, isBinary) => {
    assert.ok(isBinary);
    messages.push(data);
  });
  const [code] = await once(client, 'close');
  return { messages, code };
}

test('every event arrives and decodes', async (t) => {
  const feed = await replay(t, CAMPUS, '--speed', 'max', '--once', '--expect', 'audit>=1');
  const { messages, code } = await receive(subscribe(feed, 'audit'));
  assert.equal(code, 1000);

  const proto = await protobuf.load(['streaming', 'audit'].map((name) => path(`proto/classic/${name}.proto`)));
  const envelopes = messages.map((message) => proto.lookupType('StreamMessage.MsgProto').decode(message));
  assert.ok(envelopes.every((envelope) => envelope.subject === 'audit'));
  const events = envelopes.map((envelope) => proto.lookupType('Audit.audit_message').decode(envelope.data));
  // What centralcap itself finds in the capture.
  const lines = execFileSync(CENTRALCAP, ['decode', CAMPUS, '--topic', 'audit'], { encoding: 'utf8' });
  const expected = lines.trim().split('\n').map((line) => JSON.parse(line).data);
  assert.deepEqual(
    events.map((event) => [event.target, event.timestamp]),
    expected.map((data) => [data.target, data.timestamp]),
  );
});

test('a close in the middle is seen as that', async (t) => {
  const feed = await replay(t, CAMPUS, '--speed', 'max', '--scenario', 'close-codes');
  for (const expected of [1000, 1001, 1008]) {
    const { messages, code } = await receive(subscribe(feed, 'monitoring'));
    assert.deepEqual([messages.length, code], [4, expected]);
  }
});

test('whoever does not trust the authority does not connect', async (t) => {
  const feed = await replay(t, CAMPUS);
  const [error] = await once(subscribe(feed, 'audit', {}), 'error');
  assert.match(error.message, /certificate/);
});
