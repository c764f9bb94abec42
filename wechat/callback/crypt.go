package callback

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"crypto/subtle"
	"encoding/base64"
	"encoding/binary"
	"fmt"
)

const (
	padBlock    = 32 // PKCS#7 pads to 32 bytes, although AES has blocks of 16
	randomBytes = 16 // before the message
	headBytes   = randomBytes + 4
)

// Decrypt returns the message that is encrypted in a text: the field Encrypt of a push. It does not
// verify who encrypted it, see [Keys.Open]. An error is ErrDecrypt or ErrApp.
func (k Keys) Decrypt(encrypted string) ([]byte, error) {
	key, err := k.aes()
	if err != nil {
		return nil, fmt.Errorf("%w: the AES key %w", ErrDecrypt, err)
	}
	plain, err := base64.StdEncoding.DecodeString(encrypted)
	if err != nil {
		return nil, fmt.Errorf("%w: not base64", ErrDecrypt)
	}
	if len(plain) < padBlock || len(plain)%aes.BlockSize != 0 {
		return nil, fmt.Errorf("%w: %d bytes are not whole blocks", ErrDecrypt, len(plain))
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrDecrypt, err)
	}
	cipher.NewCBCDecrypter(block, key[:aes.BlockSize]).CryptBlocks(plain, plain)
	return k.unwrap(plain)
}

// unwrap removes the padding, the random bytes, the length and the app from a decrypted message.
func (k Keys) unwrap(plain []byte) ([]byte, error) {
	pad := int(plain[len(plain)-1])
	if pad < 1 || pad > padBlock {
		return nil, fmt.Errorf("%w: the padding is wrong", ErrDecrypt)
	}
	end := len(plain) - pad
	for _, b := range plain[end:] {
		if int(b) != pad {
			return nil, fmt.Errorf("%w: the padding is wrong", ErrDecrypt)
		}
	}
	plain = plain[:end]
	if len(plain) < headBytes {
		return nil, fmt.Errorf("%w: it is too short", ErrDecrypt)
	}
	length, rest := binary.BigEndian.Uint32(plain[randomBytes:headBytes]), plain[headBytes:]
	if uint64(length) > uint64(len(rest)) {
		return nil, fmt.Errorf("%w: its length is wrong", ErrDecrypt)
	}
	if k.App == "" || subtle.ConstantTimeCompare(rest[length:], []byte(k.App)) != 1 {
		return nil, ErrApp
	}
	return rest[:length:length], nil
}

// Encrypt returns the text that [Keys.Decrypt] decrypts. It fails only if AESKey is not valid.
func (k Keys) Encrypt(message []byte) (string, error) {
	random := make([]byte, randomBytes)
	_, _ = rand.Read(random) // never fails
	return k.encrypt(message, random)
}

func (k Keys) encrypt(message, random []byte) (string, error) {
	key, err := k.aes()
	if err != nil {
		return "", fmt.Errorf("callback: the AES key %w", err)
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return "", fmt.Errorf("callback: %w", err)
	}
	plain := make([]byte, 0, headBytes+len(message)+len(k.App)+padBlock)
	plain = append(plain, random...)
	plain = binary.BigEndian.AppendUint32(plain, uint32(len(message))) //nolint:gosec // messages are much smaller than 4 GB
	plain = append(append(plain, message...), k.App...)
	pad := padBlock - len(plain)%padBlock
	for range pad {
		plain = append(plain, byte(pad))
	}
	cipher.NewCBCEncrypter(block, key[:aes.BlockSize]).CryptBlocks(plain, plain)
	return base64.StdEncoding.EncodeToString(plain), nil
}
