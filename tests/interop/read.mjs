// Reads a sealed capture by its index with npm's @mcap/core, and prints what it saw as JSON.
import { open } from "node:fs/promises";
import { McapIndexedReader } from "@mcap/core";
import { decompress } from "fzstd";

const file = await open(process.argv[2]);
const { size } = await file.stat();
const readable = {
  size: async () => BigInt(size),
  read: async (offset, length) => {
    const data = new Uint8Array(Number(length));
    await file.read(data, 0, data.length, Number(offset));
    return data;
  },
};
const reader = await McapIndexedReader.Initialize({
  readable,
  decompressHandlers: { zstd: (data, size) => decompress(data, new Uint8Array(Number(size))) },
});
const seen = { profile: reader.header.profile, chunks: reader.chunkIndexes.length, topics: {} };
for await (const message of reader.readMessages()) {
  const { topic } = reader.channelsById.get(message.channelId);
  seen.topics[topic] = (seen.topics[topic] ?? 0) + 1;
}
console.log(JSON.stringify(seen));
