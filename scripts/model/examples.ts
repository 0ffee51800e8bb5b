import { fileURLToPath } from 'node:url'
import { writeOutput } from '#compute/trainer/checkpoint.ts'
import { asJsonLines, noteExamples } from './example-notes.ts'
import { notesRecipe } from './recipe.ts'

/** Writes the bundled fine-tuning example, training and held-out part, to `models/examples`. */
const folder = fileURLToPath(new URL('../../models/examples/', import.meta.url))
const { training, heldOut } = noteExamples(notesRecipe)
await writeOutput({ path: `${folder}notes.jsonl`, data: asJsonLines(training) })
await writeOutput({ path: `${folder}notes-held-out.jsonl`, data: asJsonLines(heldOut) })
