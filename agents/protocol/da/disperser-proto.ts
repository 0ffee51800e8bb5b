import { join } from 'node:path'

/** The gRPC service of a disperser, for servers and for clients of any language. */
export const DISPERSER_PROTO_FILE = join(import.meta.dirname, 'disperser.proto')
