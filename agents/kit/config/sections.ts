import { z } from 'zod'
import { LOG_LEVELS } from '#kit/log.ts'

/** Settings that several agents have in common: one form, one wording. */

/** Keys of the table `log`. */
export const logFields = {
  level: z.enum(LOG_LEVELS).default('info').describe('Least level logged'),
  file: z.string().min(1).optional().describe('Also append the log to this file'),
}

/** The table `log` of an agent that adds nothing to it. */
export const logSection = z.object(logFields).prefault({})

/** A publicly known account of a development chain, by its number. */
export const devAccount = z
  .number()
  .int()
  .min(0)
  .max(19)
  .optional()
  .describe('Use this publicly known account instead; on chain 31337 of this machine only')

/** Reverse proxies whose word on the client's address is taken. */
export const trustedProxies = z
  .array(z.string().max(64))
  .max(64)
  .default([])
  .describe('Proxies (addresses or CIDR) whose X-Forwarded-For is believed')
