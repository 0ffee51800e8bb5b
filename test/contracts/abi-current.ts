import { readdir, readFile } from 'node:fs/promises'
import { expect } from 'chai'
import { ABI_FOLDER, generateAbis } from '#scripts/generate-abi.ts'

// The committed ABI files say what the compiled contracts say: clients and agents are built from them.
describe('committed ABI files', () => {
  it('are current (else run `node scripts/generate-abi.ts`)', async () => {
    const generated = await generateAbis()
    expect([...generated.keys()].sort()).to.deep.equal(
      (await readdir(ABI_FOLDER)).map((name) => `${ABI_FOLDER}/${name}`).sort(),
    )
    for (const [path, text] of generated) expect(await readFile(path, 'utf8'), path).to.equal(text)
  })
})
