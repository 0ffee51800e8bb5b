import type { StorageConnection } from './connection.ts'
import { type DownloadParameters, type DownloadReturnType, download } from './download.ts'
import {
  type DownloadDirectoryParameters,
  type DownloadDirectoryReturnType,
  downloadDirectory,
} from './download-directory.ts'
import { type FileInfoParameters, type FileInfoReturnType, fileInfo } from './file-info.ts'
import { type ReadFileParameters, readFile } from './read-file.ts'
import { type UploadParameters, type UploadReturnType, upload } from './upload.ts'
import { type UploadDirectoryParameters, type UploadDirectoryReturnType, uploadDirectory } from './upload-directory.ts'
import { type UploadFragmentsParameters, type UploadFragmentsReturnType, uploadFragments } from './upload-fragments.ts'

/** The storage actions bound to one connection. Each is also a function of its own in the file of its name. */
export interface StorageClient {
  readonly connection: StorageConnection
  /** Store one file under one root. */
  upload(parameters: UploadParameters): Promise<UploadReturnType>
  /** Store a file of any size, split where it is larger than a fragment. */
  uploadFragments(parameters: UploadFragmentsParameters): Promise<UploadFragmentsReturnType>
  uploadDirectory(parameters: UploadDirectoryParameters): Promise<UploadDirectoryReturnType>
  /** Fetch a file, verified, into a file. */
  download(parameters: DownloadParameters): Promise<DownloadReturnType>
  downloadDirectory(parameters: DownloadDirectoryParameters): Promise<DownloadDirectoryReturnType>
  /** A file or a range of it as a stream of verified bytes. */
  readFile(parameters: ReadFileParameters): AsyncGenerator<Uint8Array, void, undefined>
  fileInfo(parameters: FileInfoParameters): Promise<FileInfoReturnType>
}

/** Bind the storage actions to a connection. */
export function createStorageClient(connection: StorageConnection): StorageClient {
  return {
    connection,
    upload: (parameters) => upload(connection, parameters),
    uploadFragments: (parameters) => uploadFragments(connection, parameters),
    uploadDirectory: (parameters) => uploadDirectory(connection, parameters),
    download: (parameters) => download(connection, parameters),
    downloadDirectory: (parameters) => downloadDirectory(connection, parameters),
    readFile: (parameters) => readFile(connection, parameters),
    fileInfo: (parameters) => fileInfo(connection, parameters),
  }
}
