import COpenCL

/// OpenCL's status codes: their names in the headers, and what a user can do about each.
package enum OpenCLStatus {
  /// The symbolic name; "unknown status" for a code of no header (vendors have a few of their own).
  package static func name(_ code: Int32) -> String { names[code] ?? "unknown status" }

  /// What to do about it.
  static func remedy(_ code: Int32) -> String {
    switch code {
    case -1001, -1, -2, -32, -33:
      "Run `graft devices` to see which devices are there, and check that the driver is installed and the user may use the device."
    case -3:
      "This driver has no compiler for kernels; install the vendor's whole OpenCL driver, or use --device cpu."
    case -4, -5, -6:
      "Use a smaller --batch-size, close other programs that use the device, or use --device cpu."
    case -11, -15, -16, -17, -42, -43, -44, -45, -66, -67:
      "The driver could not make the kernels ready; update the driver, or use --device cpu, and report this."
    case -13:
      "Slices of a buffer must start at a multiple of the device's base address alignment; report this."
    case -54, -55, -63:
      "The kernel's work-group or grid does not fit this device; use --device cpu, and report this."
    case -46 ... -41, -53 ... -47:
      "The kernel and its launch disagree; report this."
    case -14, -36, -1108, -1121, -9999:
      "The device stopped (a driver reset, a time limit, or a kernel's access outside its memory). Run the command again; "
        + "if it fails again, use --device cpu, and report this."
    case -61:
      "The buffer is larger than the device allows; use a smaller --batch-size, or --device cpu."
    default:
      "Use --device cpu, and report this with the driver's version."
    }
  }

  private static let names: [Int32: String] = [
    0: "CL_SUCCESS",
    -1: "CL_DEVICE_NOT_FOUND",
    -2: "CL_DEVICE_NOT_AVAILABLE",
    -3: "CL_COMPILER_NOT_AVAILABLE",
    -4: "CL_MEM_OBJECT_ALLOCATION_FAILURE",
    -5: "CL_OUT_OF_RESOURCES",
    -6: "CL_OUT_OF_HOST_MEMORY",
    -7: "CL_PROFILING_INFO_NOT_AVAILABLE",
    -8: "CL_MEM_COPY_OVERLAP",
    -9: "CL_IMAGE_FORMAT_MISMATCH",
    -10: "CL_IMAGE_FORMAT_NOT_SUPPORTED",
    -11: "CL_BUILD_PROGRAM_FAILURE",
    -12: "CL_MAP_FAILURE",
    -13: "CL_MISALIGNED_SUB_BUFFER_OFFSET",
    -14: "CL_EXEC_STATUS_ERROR_FOR_EVENTS_IN_WAIT_LIST",
    -15: "CL_COMPILE_PROGRAM_FAILURE",
    -16: "CL_LINKER_NOT_AVAILABLE",
    -17: "CL_LINK_PROGRAM_FAILURE",
    -18: "CL_DEVICE_PARTITION_FAILED",
    -19: "CL_KERNEL_ARG_INFO_NOT_AVAILABLE",
    -30: "CL_INVALID_VALUE",
    -31: "CL_INVALID_DEVICE_TYPE",
    -32: "CL_INVALID_PLATFORM",
    -33: "CL_INVALID_DEVICE",
    -34: "CL_INVALID_CONTEXT",
    -35: "CL_INVALID_QUEUE_PROPERTIES",
    -36: "CL_INVALID_COMMAND_QUEUE",
    -37: "CL_INVALID_HOST_PTR",
    -38: "CL_INVALID_MEM_OBJECT",
    -39: "CL_INVALID_IMAGE_FORMAT_DESCRIPTOR",
    -40: "CL_INVALID_IMAGE_SIZE",
    -41: "CL_INVALID_SAMPLER",
    -42: "CL_INVALID_BINARY",
    -43: "CL_INVALID_BUILD_OPTIONS",
    -44: "CL_INVALID_PROGRAM",
    -45: "CL_INVALID_PROGRAM_EXECUTABLE",
    -46: "CL_INVALID_KERNEL_NAME",
    -47: "CL_INVALID_KERNEL_DEFINITION",
    -48: "CL_INVALID_KERNEL",
    -49: "CL_INVALID_ARG_INDEX",
    -50: "CL_INVALID_ARG_VALUE",
    -51: "CL_INVALID_ARG_SIZE",
    -52: "CL_INVALID_KERNEL_ARGS",
    -53: "CL_INVALID_WORK_DIMENSION",
    -54: "CL_INVALID_WORK_GROUP_SIZE",
    -55: "CL_INVALID_WORK_ITEM_SIZE",
    -56: "CL_INVALID_GLOBAL_OFFSET",
    -57: "CL_INVALID_EVENT_WAIT_LIST",
    -58: "CL_INVALID_EVENT",
    -59: "CL_INVALID_OPERATION",
    -60: "CL_INVALID_GL_OBJECT",
    -61: "CL_INVALID_BUFFER_SIZE",
    -62: "CL_INVALID_MIP_LEVEL",
    -63: "CL_INVALID_GLOBAL_WORK_SIZE",
    -64: "CL_INVALID_PROPERTY",
    -65: "CL_INVALID_IMAGE_DESCRIPTOR",
    -66: "CL_INVALID_COMPILER_OPTIONS",
    -67: "CL_INVALID_LINKER_OPTIONS",
    -68: "CL_INVALID_DEVICE_PARTITION_COUNT",
    -69: "CL_INVALID_PIPE_SIZE",
    -70: "CL_INVALID_DEVICE_QUEUE",
    -71: "CL_INVALID_SPEC_ID",
    -72: "CL_MAX_SIZE_RESTRICTION_EXCEEDED",
    -1000: "CL_INVALID_GL_SHAREGROUP_REFERENCE_KHR",
    -1001: "CL_PLATFORM_NOT_FOUND_KHR",
    -1057: "CL_DEVICE_PARTITION_FAILED_EXT",
    -1058: "CL_INVALID_PARTITION_COUNT_EXT",
    -1059: "CL_INVALID_PARTITION_NAME_EXT",
    -1092: "CL_EGL_RESOURCE_NOT_ACQUIRED_KHR",
    -1093: "CL_INVALID_EGL_OBJECT_KHR",
    -1108: "CL_COMMAND_TERMINATED_ITSELF_WITH_FAILURE_ARM",
    -1121: "CL_CONTEXT_TERMINATED_KHR",
    -1138: "CL_INVALID_COMMAND_BUFFER_KHR",
    -1139: "CL_INVALID_SYNC_POINT_WAIT_LIST_KHR",
    -1140: "CL_INCOMPATIBLE_COMMAND_QUEUE_KHR",
    -1141: "CL_INVALID_MUTABLE_COMMAND_KHR",
    -1142: "CL_INVALID_SEMAPHORE_KHR",
    -9999: "CL_ILLEGAL_READ_OR_WRITE_NV",
  ]
}

extension DeviceError {
  /// The error of an OpenCL call that returned `status`.
  ///
  /// - Parameter isOfWaiting: whether the call waited for work.
  init(status: cl_int, call: String, on device: String, isOfWaiting: Bool = false) {
    // What a driver says of work that it took need not be short memory.
    let remedy = isOfWaiting && status == CL_OUT_OF_RESOURCES ? OpenCLStatus.remedy(CL_INVALID_COMMAND_QUEUE) : OpenCLStatus.remedy(status)
    self.init(device: device, call: call, code: Int(status), name: OpenCLStatus.name(status), remedy: remedy, isOfWaiting: isOfWaiting)
  }
}

/// The one place where a status becomes an error.
///
/// - Throws: `DeviceError` unless `status` is `CL_SUCCESS`.
func check(_ status: cl_int, _ call: @autoclosure () -> String, on device: String) throws(DeviceError) {
  guard status == CL_SUCCESS else { throw DeviceError(status: status, call: call(), on: device) }
}
