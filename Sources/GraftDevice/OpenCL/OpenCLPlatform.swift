import COpenCL

/// What the ICD loader offers.
public enum OpenCLPlatform {
  /// Every device of every platform, in the loader's order; their place in this list is the index of `--device opencl:index`.
  ///
  /// No driver, or a driver without a device, is an empty list and no error. A platform that fails otherwise is left out
  /// with a note, so that one broken driver does not hide the others.
  public static func devices() throws(DeviceError) -> [OpenCLDeviceInfo] {
    var platformCount: cl_uint = 0
    let status = clGetPlatformIDs(0, nil, &platformCount)
    if status == CL_PLATFORM_NOT_FOUND_KHR || (status == CL_SUCCESS && platformCount == 0) { return [] }
    try check(status, "clGetPlatformIDs", on: "OpenCL")
    var platforms = [cl_platform_id?](repeating: nil, count: Int(platformCount))
    try check(clGetPlatformIDs(platformCount, &platforms, nil), "clGetPlatformIDs", on: "OpenCL")

    var found: [OpenCLDeviceInfo] = []
    for platform in platforms.compactMap({ $0 }) {
      do {
        for device in try deviceIDs(of: platform) {
          found.append(try OpenCLDeviceInfo(device, of: platform, index: found.count))
        }
      } catch {
        DeviceNotes.note("an OpenCL driver is left out: \(error)")
      }
    }
    return found
  }

  private static func deviceIDs(of platform: cl_platform_id) throws(DeviceError) -> [cl_device_id] {
    let all = cl_device_type(CL_DEVICE_TYPE_ALL)
    var count: cl_uint = 0
    let status = clGetDeviceIDs(platform, all, 0, nil, &count)
    if status == CL_DEVICE_NOT_FOUND || (status == CL_SUCCESS && count == 0) { return [] }
    try check(status, "clGetDeviceIDs", on: "OpenCL")
    var devices = [cl_device_id?](repeating: nil, count: Int(count))
    try check(clGetDeviceIDs(platform, all, count, &devices, nil), "clGetDeviceIDs", on: "OpenCL")
    return devices.compactMap { $0 }
  }
}
