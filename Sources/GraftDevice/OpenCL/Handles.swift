import COpenCL

// Every `cl_*` handle is the same `OpaquePointer` to the compiler, so each kind has an owner of its own that releases it.
//
// `@unchecked Sendable` of all of them: the pointer never changes, and OpenCL's calls on these objects are thread-safe.
// The one exception, `clSetKernelArg`, is why `KernelHandle` is not `Sendable`.

/// Owns a `cl_context`.
final class ContextHandle: @unchecked Sendable {
  let raw: cl_context
  init(adopting raw: cl_context) { self.raw = raw }
  deinit { clReleaseContext(raw) }
}

/// Owns a `cl_command_queue`.
final class QueueHandle: @unchecked Sendable {
  let raw: cl_command_queue
  init(adopting raw: cl_command_queue) { self.raw = raw }
  deinit { clReleaseCommandQueue(raw) }
}

/// Owns a `cl_program`.
final class ProgramHandle: @unchecked Sendable {
  let raw: cl_program
  init(adopting raw: cl_program) { self.raw = raw }
  deinit { clReleaseProgram(raw) }
}

/// Owns a `cl_mem`: a buffer or a sub-buffer. The driver frees it once queued commands that use it are done.
final class MemoryHandle: @unchecked Sendable {
  let raw: cl_mem
  init(adopting raw: cl_mem) { self.raw = raw }
  deinit { clReleaseMemObject(raw) }
}

/// Owns a `cl_event`.
final class EventHandle: @unchecked Sendable {
  let raw: cl_event
  init(adopting raw: cl_event) { self.raw = raw }
  deinit { clReleaseEvent(raw) }

  /// Whether the command has ended, well or not; asks and does not wait.
  var isDone: Bool { execution.map { $0 <= 0 } ?? true }

  /// Why the command itself failed, if it did; not that one it waited for has.
  var failure: cl_int? {
    guard let execution, execution < 0, execution != CL_EXEC_STATUS_ERROR_FOR_EVENTS_IN_WAIT_LIST else { return nil }
    return execution
  }

  private var execution: cl_int? {
    var execution: cl_int = 0
    let status = clGetEventInfo(raw, cl_event_info(CL_EVENT_COMMAND_EXECUTION_STATUS), MemoryLayout<cl_int>.size, &execution, nil)
    return status == CL_SUCCESS ? execution : nil
  }

  /// Waits until the command is done.
  func wait(_ call: @autoclosure () -> String, on device: String) throws(DeviceError) {
    var event: cl_event? = raw
    let status = clWaitForEvents(1, &event)
    guard status == CL_SUCCESS else {
      // The wait's status says only that the command failed; the event knows why.
      throw DeviceError(status: execution.flatMap { $0 < 0 ? $0 : nil } ?? status, call: call(), on: device, isOfWaiting: true)
    }
  }
}

/// Owns a `cl_kernel` with its arguments.
final class KernelHandle {
  let raw: cl_kernel
  init(adopting raw: cl_kernel) { self.raw = raw }
  deinit { clReleaseKernel(raw) }
}

/// A handle, or the error that `status` stands for: for the calls that return the handle and the status apart.
func adopt(_ raw: OpaquePointer?, _ status: cl_int, _ call: @autoclosure () -> String, on device: String) throws(DeviceError) -> OpaquePointer {
  guard status == CL_SUCCESS, let raw else { throw DeviceError(status: status, call: call(), on: device) }
  return raw
}
