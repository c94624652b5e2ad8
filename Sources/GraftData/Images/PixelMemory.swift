import CCodecs
import Foundation
import GraftGraph

/// Whether there is memory for a picture's pixels, asked before it is taken: an array that cannot be made ends the process.
enum PixelMemory {
  /// So little is not asked for: it takes no time, and whoever lacks it is beyond help.
  private static let unasked = 64 << 20

  /// - Parameter byteCount: of the pixels.
  /// - Throws: `ImageError` if a file of so many bytes cannot be a picture of that size, or there is no such memory.
  static func check(_ byteCount: Int, file: Int, _ format: ImageFormat, path: String) throws(ImageError) {
    guard byteCount > unasked else { return }
    var message = graft_image_message()
    let status = graft_check_memory(UInt64(byteCount), file, &message)
    guard status == GRAFT_IMAGE_OK else { throw ImageError(status, message, format, path: path) }
    // Where the system promises more than it has, a process that takes it up is killed later.
    let trial = malloc(byteCount)
    free(trial)
    guard trial != nil, byteCount <= AvailableMemory.byteCount() ?? .max else {
      throw ImageError(GRAFT_IMAGE_OUT_OF_MEMORY, message, format, path: path)
    }
  }
}
