import type { StorageConnection } from './connection.ts'
import { type DownloadParameters, type DownloadReturnType, download } from './download.ts'
import { type FileInfoParameters, type FileInfoReturnType, fileInfo } from './file-info.ts'
import { type ReadFileParameters, readFile } from './read-file.ts'
import { type UploadParameters, type UploadReturnType, upload } from './upload.ts'

/** The storage actions bound to one connection. Each is also a function of its own in the file of its name. */
export interface StorageClient {
  readonly connection: StorageConnection
  upload(parameters: UploadParameters): Promise<UploadReturnType>
  download(parameters: DownloadParameters): Promise<DownloadReturnType>
  readFile(parameters: ReadFileParameters): AsyncGenerator<Uint8Array, void, undefined>
  fileInfo(parameters: FileInfoParameters): Promise<FileInfoReturnType>
}

/** Bind the storage actions to a connection. */
export function createStorageClient(connection: StorageConnection): StorageClient {
  return {
    connection,
    upload: (parameters) => upload(connection, parameters),
    download: (parameters) => download(connection, parameters),
    readFile: (parameters) => readFile(connection, parameters),
    fileInfo: (parameters) => fileInfo(connection, parameters),
  }
}
