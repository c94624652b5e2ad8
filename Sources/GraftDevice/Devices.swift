/// The devices of this machine.
public enum Devices {
  /// The CPU, then every OpenCL device; of GPUs the matrix unit too, for which they are opened.
  ///
  /// An OpenCL loader that fails hides no CPU: the failure is noted.
  public static func all() throws(DeviceError) -> [DeviceTraits] {
    [try CPUDevice().traits] + openCLDevices().map(described)
  }

  private static func described(_ info: OpenCLDeviceInfo) -> DeviceTraits {
    var traits = info.traits()
    guard traits.family == .gpu, info.obstacle == nil else { return traits }
    do {
      traits.matrixUnit = try OpenCLDevice(info).matrixUnit()
    } catch {
      DeviceNotes.note("\(info.identifier) \(info.name): its matrix unit cannot be looked for: \(error)")
    }
    return traits
  }

  /// Opens the device that `--device` and `--kernels` name.
  ///
  /// - Parameters:
  ///   - text: "auto", "cpu", "opencl" or "opencl:INDEX".
  ///   - kernels: the family an OpenCL device runs.
  ///   - threadCount: threads of the CPU device; `nil` takes every core the process may use.
  /// - Throws: `DeviceChoiceError` if there is no such device, `DeviceError` if it cannot be opened.
  public static func choose(_ text: String = "auto", kernels: KernelChoice = .auto, threadCount: Int? = nil) throws -> any Device {
    // Asking for the CPU starts no driver.
    let infos = text == "cpu" ? [] : openCLDevices()
    if text == "auto" {
      for info in infos where info.isGPU {
        if let obstacle = info.obstacle { DeviceNotes.note("\(info.identifier) \(info.name) is not chosen: \(obstacle)") }
      }
    }
    let candidates = infos.map { DeviceSelection.Candidate(traits: $0.traits(), obstacle: $0.obstacle) }
    switch try DeviceSelection.select(text, kernels: kernels, among: candidates) {
    case .cpu: return try CPUDevice(threadCount: threadCount)
    case .openCL(let index, let family): return try OpenCLDevice(infos[index], family: family)
    }
  }

  private static func openCLDevices() -> [OpenCLDeviceInfo] {
    do {
      return try OpenCLPlatform.devices()
    } catch {
      DeviceNotes.note("OpenCL devices cannot be listed: \(error)")
      return []
    }
  }
}
