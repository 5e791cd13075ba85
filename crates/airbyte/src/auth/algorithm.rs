//! The algorithms that tokens are signed with.

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Algorithm {
    Hmac(Bits),
    Rsa(Bits),
    RsaPss(Bits),
    Ecdsa(Bits),
    /// ECDSA on the curve secp256k1.
    Secp256k1,
    EdDsa,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bits {
    B256,
    B384,
    B512,
}

impl Algorithm {
    pub fn of(name: &str) -> Option<Self> {
        let bits = |digits: &str| match digits {
            "256" => Some(Bits::B256),
            "384" => Some(Bits::B384),
            "512" => Some(Bits::B512),
            _ => None,
        };
        match name {
            "EdDSA" => return Some(Self::EdDsa),
            "ES256K" => return Some(Self::Secp256k1),
            _ => {}
        }
        let (family, digits) = name.split_at_checked(2)?;
        let bits = bits(digits)?;
        Some(match family {
            "HS" => Self::Hmac(bits),
            "RS" => Self::Rsa(bits),
            "PS" => Self::RsaPss(bits),
            "ES" => Self::Ecdsa(bits),
            _ => return None,
        })
    }
    pub fn name(self) -> String {
        let digits = |bits| match bits {
            Bits::B256 => "256",
            Bits::B384 => "384",
            Bits::B512 => "512",
        };
        match self {
            Self::Hmac(bits) => format!("HS{}", digits(bits)),
            Self::Rsa(bits) => format!("RS{}", digits(bits)),
            Self::RsaPss(bits) => format!("PS{}", digits(bits)),
            Self::Ecdsa(bits) => format!("ES{}", digits(bits)),
            Self::EdDsa => "EdDSA".into(),
            Self::Secp256k1 => "ES256K".into(),
        }
    }
}
