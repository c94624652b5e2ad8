/// How a name is written in Unicode: é is one character, or an e and an accent over it.
///
/// Linux keeps both as names of their own. Swift takes them for one, and a person can't tell them apart: such names usually are one name
/// that came once from a Mac and once from elsewhere. Where names tell things apart, the second spelling is refused.
package enum Spelling {
  /// The first two names that are the same text and other bytes; `nil`: there are none.
  package static func twins(in names: some Sequence<String>) -> (String, String)? {
    var known: Set<String> = []
    for name in names {
      let (isNew, first) = known.insert(name)
      if !isNew, differ(first, name) { return (first, name) }
    }
    return nil
  }

  /// Whether two equal names are other bytes.
  static func differ(_ a: String, _ b: String) -> Bool { !a.utf8.elementsEqual(b.utf8) }

  /// Both in a form that shows what differs: `'caf\u{E9}' and 'cafe\u{0301}'`.
  package static func text(_ a: String, _ b: String) -> String {
    func shown(_ name: String) -> String { name.unicodeScalars.map { $0.isASCII ? String($0) : $0.escaped(asASCII: true) }.joined() }
    return "'\(shown(a))' and '\(shown(b))' are one name in two spellings of Unicode"
  }
}
