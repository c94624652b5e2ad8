import COpenCL

extension PreparedOpenCLLaunches {
  /// The launch's grid, once it is known to fit the device and the kernel.
  ///
  /// - Throws: `DeviceError` that says which limit is in the way: a driver would say only that something is invalid.
  static func checkedGrid(_ launch: Launch, _ kernel: KernelHandle, _ info: OpenCLDeviceInfo) throws(DeviceError) -> [Int] {
    let (global, local) = (launch.grid.globalSize, launch.grid.workGroupSize)
    let (globalSizes, groupSizes) = ([global.x, global.y, global.z], [local.x, local.y, local.z])
    func refuse(_ status: cl_int, _ remedy: String) -> DeviceError {
      DeviceError(
        device: info.identifier, call: "clEnqueueNDRangeKernel(\(launch.kernel.function), for \(launch.label))", code: Int(status),
        name: OpenCLStatus.name(status), remedy: remedy)
    }

    for (items, group) in zip(globalSizes, groupSizes) {
      guard items > 0, group > 0, items % group == 0 else {
        throw refuse(CL_INVALID_WORK_GROUP_SIZE, "A grid of \(globalSizes) is not made of whole work-groups of \(groupSizes); report this.")
      }
    }
    for (group, limit) in zip(groupSizes, info.maximumWorkItemSizes) where group > limit {
      throw refuse(
        CL_INVALID_WORK_ITEM_SIZE,
        "The device allows work-groups of \(info.maximumWorkItemSizes), and the kernel wants \(groupSizes). Use --device cpu.")
    }
    let query = InfoQuery(call: "clGetKernelWorkGroupInfo", device: info.identifier) {
      clGetKernelWorkGroupInfo(kernel.raw, info.id.raw, $0, $1, $2, $3)
    }
    let limit = try query.value(CL_KERNEL_WORK_GROUP_SIZE, 0)
    let (plane, overflowsPlane) = local.x.multipliedReportingOverflow(by: local.y)
    let (count, overflows) = plane.multipliedReportingOverflow(by: local.z)
    guard !overflowsPlane, !overflows, count <= limit else {
      throw refuse(
        CL_INVALID_WORK_GROUP_SIZE,
        "The device runs at most \(limit) work-items of this kernel in a group, and the launch wants \(groupSizes). Use --device cpu, and report this."
      )
    }
    let localByteCount = try query.value(CL_KERNEL_LOCAL_MEM_SIZE, cl_ulong(0))
    guard localByteCount <= cl_ulong(info.localMemoryByteCount) else {
      throw refuse(
        CL_OUT_OF_RESOURCES,
        "The kernel needs \(localByteCount) bytes of local memory, and the device has \(info.localMemoryByteCount). Use --device cpu, and report this."
      )
    }
    return globalSizes + groupSizes
  }
}
