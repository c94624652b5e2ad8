import COpenCL

/// An OpenCL device as its driver describes it, before anything is created on it.
public struct OpenCLDeviceInfo: Sendable {
  /// What `--device` takes: "opencl:0".
  public let identifier: String
  public let name: String
  public let vendor: String
  public let driver: String
  public let platformName: String
  public let platformVersion: String
  /// "OpenCL 3.0 …", as the driver says it.
  public let version: String
  /// Whether the driver calls it a GPU, and whether it calls it a CPU.
  public let isGPU: Bool
  public let isCPU: Bool
  /// Why Graft cannot use it, or `nil`.
  public let obstacle: String?

  public let computeUnits: Int
  public let memoryByteCount: Int
  public let maximumBufferByteCount: Int
  public let localMemoryByteCount: Int
  /// Bytes of the global memory cache.
  public let cacheByteCount: Int
  public let maximumWorkGroupSize: Int
  public let maximumWorkItemSizes: [Int]
  /// Slices of a buffer start at multiples of this.
  public let sliceAlignment: Int
  public let nativeVectorWidth: Int
  public let numericFormats: [String]
  /// Work-items of a sub-group that multiplies matrices by Intel's extension, which wants the smallest there is; `nil` without it.
  let matrixSubGroup: Int?
  /// 9 for sm_90, as NVIDIA's extension says; `nil` without it.
  let computeCapability: Int?
  /// Whether its memory is the processor's.
  public let sharesHostMemory: Bool
  /// Where it is on the machine's bus, if the driver says.
  public let busAddress: String?

  let id: DeviceID

  /// A root device: it lives as long as the process, so there is nothing to own.
  ///
  /// `@unchecked Sendable`: the pointer is only ever handed to OpenCL's thread-safe calls.
  struct DeviceID: @unchecked Sendable {
    let raw: cl_device_id
    let platform: cl_platform_id
  }

  init(_ device: cl_device_id, of platform: cl_platform_id, index: Int) throws(DeviceError) {
    id = DeviceID(raw: device, platform: platform)
    identifier = "opencl:\(index)"
    let platformInfo = InfoQuery.platform(platform)
    platformName = try platformInfo.text(CL_PLATFORM_NAME)
    platformVersion = try platformInfo.text(CL_PLATFORM_VERSION)

    let info = InfoQuery.device(device, named: "opencl:\(index)")
    name = try info.text(CL_DEVICE_NAME)
    vendor = try info.text(CL_DEVICE_VENDOR)
    driver = try info.text(CL_DRIVER_VERSION)
    version = try info.text(CL_DEVICE_VERSION)
    let type = try info.value(CL_DEVICE_TYPE, cl_device_type(0))
    isGPU = type & cl_device_type(CL_DEVICE_TYPE_GPU) != 0
    isCPU = type & cl_device_type(CL_DEVICE_TYPE_CPU) != 0
    computeUnits = Int(try info.value(CL_DEVICE_MAX_COMPUTE_UNITS, cl_uint(0)))
    memoryByteCount = Int(clamping: try info.value(CL_DEVICE_GLOBAL_MEM_SIZE, cl_ulong(0)))
    maximumBufferByteCount = Int(clamping: try info.value(CL_DEVICE_MAX_MEM_ALLOC_SIZE, cl_ulong(0)))
    localMemoryByteCount = Int(clamping: try info.value(CL_DEVICE_LOCAL_MEM_SIZE, cl_ulong(0)))
    cacheByteCount = Int(clamping: try info.value(CL_DEVICE_GLOBAL_MEM_CACHE_SIZE, cl_ulong(0)))
    maximumWorkGroupSize = try info.value(CL_DEVICE_MAX_WORK_GROUP_SIZE, 0)
    maximumWorkItemSizes = try info.values(CL_DEVICE_MAX_WORK_ITEM_SIZES, 0)
    sliceAlignment = max(1, Int(try info.value(CL_DEVICE_MEM_BASE_ADDR_ALIGN, cl_uint(0))) / 8)
    nativeVectorWidth = Int(try info.value(CL_DEVICE_NATIVE_VECTOR_WIDTH_FLOAT, cl_uint(0)))
    let extensions = Set(try info.text(CL_DEVICE_EXTENSIONS).split(separator: " ").map(String.init))
    let doubles = try info.value(CL_DEVICE_DOUBLE_FP_CONFIG, cl_device_fp_config(0))
    numericFormats = Self.formats(extensions: extensions, hasDoubles: doubles != 0)
    if extensions.isSuperset(of: ["cl_intel_subgroup_matrix_multiply_accumulate", "cl_intel_required_subgroup_size"]) {
      // CL_DEVICE_SUB_GROUP_SIZES_INTEL, which not every header has.
      matrixSubGroup = try info.values(0x4108, 0).min()
    } else {
      matrixSubGroup = nil
    }
    // CL_DEVICE_COMPUTE_CAPABILITY_MAJOR_NV.
    computeCapability = extensions.contains("cl_nv_device_attribute_query") ? Int(try info.value(0x4000, cl_uint(0))) : nil
    sharesHostMemory = try info.value(CL_DEVICE_HOST_UNIFIED_MEMORY, cl_bool(0)) != 0
    busAddress = Self.busAddress(info, extensions)

    let isAvailable = try info.value(CL_DEVICE_AVAILABLE, cl_bool(0)) != 0
    let hasCompiler = try info.value(CL_DEVICE_COMPILER_AVAILABLE, cl_bool(0)) != 0
    obstacle =
      if !Self.isNewEnough(version) {
        "it is \(version), and Graft needs OpenCL 1.2: update the driver"
      } else if !isAvailable {
        "its driver says that it is not available: another program may hold it"
      } else if !hasCompiler {
        "its driver has no compiler: install the vendor's whole OpenCL driver"
      } else {
        nil
      }
  }

  /// The kernels this kind of device runs best.
  public var preferredFamily: KernelFamily { isCPU ? .cpu : .gpu }

  /// Floats in a vector of the CPU family's kernels: the device's own width, within the widths that are written.
  public var vectorWidth: Int { nativeVectorWidth >= 16 ? 16 : nativeVectorWidth >= 8 ? 8 : 4 }

  /// Vectors in a full panel of the CPU family's weights: 32 registers hold wider tiles than 16 (see Kernels/cpu/tile.h).
  public var panelVectors: Int { vectorWidth == 16 ? 4 : 2 }

  /// Whether the driver keeps compiled programs itself, so that asking for binaries is work for nothing.
  ///
  /// PoCL does, kernel by kernel as they are launched; asked for a binary, it compiles every kernel of the program once more, for
  /// any work-group, which more than doubles the time to the first result.
  package func keepsPrograms(environment: [String: String]) -> Bool {
    platformName == "Portable Computing Language" && environment["POCL_KERNEL_CACHE"] != "0"
  }

  /// Local memory that a kernel can have. Of NVIDIA's compiler of OpenCL C others report that arrays of all that there is are refused
  /// ("uses too much shared data"): as if address 0 were its own, and with it as many bytes as the first array is aligned to.
  private var usableLocalByteCount: Int {
    platformName.uppercased().contains("NVIDIA") ? max(0, localMemoryByteCount - Self.reservedLocalByteCount) : localMemoryByteCount
  }
  /// The largest alignment of an array in local memory.
  private static let reservedLocalByteCount = 1024

  /// The description shared by all devices.
  public func traits(family: KernelFamily? = nil) -> DeviceTraits {
    var traits = DeviceTraits(
      kind: .openCL, identifier: identifier, name: name, vendor: vendor, driver: "\(platformName) \(driver)", family: family ?? preferredFamily,
      computeUnits: computeUnits, memoryByteCount: memoryByteCount, maximumBufferByteCount: maximumBufferByteCount,
      localMemoryByteCount: usableLocalByteCount, maximumWorkGroupSize: maximumWorkGroupSize, vectorWidth: vectorWidth,
      panelVectors: panelVectors, instructionSet: version, numericFormats: numericFormats, isGPU: isGPU, threadCount: 0)
    traits.numericFormats.insert(contentsOf: ["bfloat16 (converted)", "float16 (converted)"], at: 1)
    traits.sliceAlignmentByteCount = sliceAlignment
    (traits.sharesHostMemory, traits.busAddress) = (sharesHostMemory, busAddress)
    if traits.family == .cpu { traits.lastCacheByteCount = cacheByteCount }
    return traits
  }

  /// "0000:65:00.0", from whichever extension there is; one that does not answer says nothing.
  private static func busAddress(_ info: InfoQuery, _ extensions: Set<String>) -> String? {
    func address(_ domain: Int, _ bus: Int, _ device: Int, _ function: Int) -> String {
      func hexadecimal(_ value: Int, _ width: Int) -> String { String(repeating: "0", count: width) + String(value, radix: 16) }
      return "\(hexadecimal(domain, 4).suffix(4)):\(hexadecimal(bus, 2).suffix(2)):\(hexadecimal(device, 2).suffix(2)).\(function)"
    }
    // CL_DEVICE_PCI_BUS_INFO_KHR: domain, bus, device, function.
    if extensions.contains("cl_khr_pci_bus_info"), let found = try? info.values(0x410F, cl_uint(0)), found.count == 4 {
      return address(Int(found[0]), Int(found[1]), Int(found[2]), Int(found[3]))
    }
    // CL_DEVICE_PCI_BUS_ID_NV, CL_DEVICE_PCI_SLOT_ID_NV and CL_DEVICE_PCI_DOMAIN_ID_NV; a slot is device and function.
    if extensions.contains("cl_nv_device_attribute_query"), let bus = try? info.value(0x4008, cl_uint(0)),
      let slot = try? info.value(0x4009, cl_uint(0))
    {
      return address(Int((try? info.value(0x400A, cl_uint(0))) ?? 0), Int(bus), Int(slot >> 3), Int(slot & 7))
    }
    // CL_DEVICE_TOPOLOGY_AMD: a kind, 1 for PCIe, and in the last three of 24 bytes bus, device and function.
    if extensions.contains("cl_amd_device_attribute_query"), let found = try? info.values(0x4037, UInt8(0)), found.count == 24, found[0] == 1 {
      return address(0, Int(found[21]), Int(found[22]), Int(found[23]))
    }
    return nil
  }

  /// What its arithmetic knows.
  private static func formats(extensions: Set<String>, hasDoubles: Bool) -> [String] {
    var formats = ["float32"]
    if extensions.contains("cl_khr_fp16") { formats.append("float16 arithmetic") }
    if hasDoubles { formats.append("float64") }
    if extensions.contains("cl_khr_integer_dot_product") { formats.append("int8 dot product") }
    return formats
  }

  /// The specification fixes the form: "OpenCL <major>.<minor> <vendor's words>".
  private static func isNewEnough(_ version: String) -> Bool {
    let words = version.split(separator: " ")
    guard words.count >= 2, words[0] == "OpenCL" else { return false }
    let numbers = words[1].split(separator: ".").compactMap { Int($0) }
    return numbers.count >= 2 && (numbers[0], numbers[1]) >= (1, 2)
  }
}
