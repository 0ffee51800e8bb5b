import { WeightlessError } from '../../error.ts'

/** Every reason for which a fine-tuning message, artefact or record is refused; stable. */
export type FineTuningFormatCode =
  | 'TASK_FORMAT'
  | 'TASK_PARAMETERS'
  | 'TASK_SIGNATURE'
  | 'ARTEFACT_FORMAT'
  | 'ARTEFACT_KEY'
  | 'ARTEFACT_SIGNATURE'
  | 'SECRET_FORMAT'
  | 'SECRET_KEY'
  | 'ARCHIVE_FORMAT'
  | 'LINEAGE_FORMAT'
  | 'LINEAGE_SIGNATURE'

/**
 * Something of fine-tuning's wire that is not as it must be.
 *
 * - `TASK_FORMAT`, `TASK_PARAMETERS` a task's field (`details.field`) is missing or out of range; `TASK_SIGNATURE` it is
 *   not signed by its user
 * - `ARTEFACT_FORMAT` not an encrypted artefact, or cut short; `ARTEFACT_KEY` it does not open with this key;
 *   `ARTEFACT_SIGNATURE` the provider's signer did not sign it
 * - `SECRET_FORMAT`, `SECRET_KEY` an encrypted key of the wrong shape, or for somebody else
 * - `ARCHIVE_FORMAT` not an archive that is read here; `LINEAGE_FORMAT`, `LINEAGE_SIGNATURE` not a record of lineage
 */
export class FineTuningFormatError extends WeightlessError {
  constructor(parameters: {
    code: FineTuningFormatCode
    message: string
    fix?: string | undefined
    details?: Record<string, unknown> | undefined
    cause?: unknown
  }) {
    super(parameters)
  }
}
